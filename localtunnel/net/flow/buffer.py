"""The one buffer of all reads in the hub, and the sizes of what is read into it."""

BUFFER_SIZE = 128 * 1024
"""The most bytes of one readiness event, and so of a flow that waits for a slow reader.
With twice as much, 250 such flows over TLS cost 65 MB instead of 45, and bulk over TLS
gained 4 %; with half as much it lost a tenth."""

PIECE = 64 * 1024
"""The most bytes to read for a side that was short of room lately: bytes that do not
fit are held, for each flow."""

FIRST_PIECE = 16 * 1024
LEAST_PIECE = 2 * 1024
"""The first and the least size of a read where the owner looks at the bytes. Many small
parts make that slow: a chunk of one byte costs as much as one of a megabyte, and 64 KiB
of those held the hub for 15 ms. A piece of the least size costs less than a
millisecond, and then other connections have their turn."""

buffer = bytearray(BUFFER_SIZE)
"""The buffer of every read in the hub; a callback is done with it before it returns."""

view = memoryview(buffer)
