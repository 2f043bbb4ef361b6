"""The stream of a join over TLS, in chunks with an end of its own (PROTOCOL.md,
"Streams over TLS").

TLS has no half-close that programs can rely on, and the end of the TCP connection does
not prove the end of the stream. So each direction is a sequence of chunks: a 4-byte
big-endian unsigned length, and that many bytes. A length of 0 is the end of the
direction; a connection that ends without it was cut.
"""

from localtunnel.errors import FrameError

LENGTH_SIZE = 4

RECORD_SIZE = 16 * 1024
"""Bytes that one TLS record carries at most (RFC 8446 5.1)."""

MAX_CHUNK = RECORD_SIZE - LENGTH_SIZE
"""Bytes in one chunk of ours. It fills a record, so that a receiver's reads never end
within one. A receiver accepts chunks of any length."""

END = bytes(LENGTH_SIZE)


def chunked(data: bytes) -> bytes:
    """Return ``data`` in chunks, without the end; nothing if it is empty, since an
    empty chunk is the end."""
    pieces = (data[start : start + MAX_CHUNK] for start in range(0, len(data), MAX_CHUNK))
    return b"".join(len(piece).to_bytes(LENGTH_SIZE, "big") + piece for piece in pieces)


class Unchunker:
    """Takes the bytes of one direction in any pieces, and returns their content.
    ``ended`` once the end has come.

    Once ``goes_on`` is set, messages may follow the stream. What has come of them with
    the end is ``rest`` then.
    """

    __slots__ = ("_head", "_left", "ended", "goes_on", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.goes_on = False
        self.rest = b""
        self._head = b""
        self._left = 0

    @property
    def is_between_chunks(self) -> bool:
        """Whether the bytes so far are whole chunks, without the end."""
        return not (self._left or self._head or self.ended)

    def compact(self, view: memoryview, size: int) -> int:
        """Move the content of ``view[:size]`` to its beginning, and return its size.

        Raises FrameError for bytes behind the end, unless the connection ``goes_on``.
        It works in place, because every byte passes here.
        """
        # ``is_between_chunks`` without the call, for every record.
        is_between_chunks = not (self._left or self._head or self.ended)
        if is_between_chunks and int.from_bytes(view[:LENGTH_SIZE], "big") == size - LENGTH_SIZE > 0:
            # A record with one chunk, as our own side sends them.
            view[: size - LENGTH_SIZE] = view[LENGTH_SIZE:size]
            return size - LENGTH_SIZE
        position = kept = 0
        while position < size:
            if self._left:
                length = min(self._left, size - position)
                view[kept : kept + length] = view[position : position + length]
                kept += length
                position += length
                self._left -= length
            elif self.ended and self.goes_on:
                self.rest += view[position:size]
                break
            else:
                position += self._take_head(bytes(view[position : min(size, position + LENGTH_SIZE)]))
        return kept

    def feed(self, data: bytes) -> bytes:
        """Return the content of ``data``. Raises FrameError as ``compact`` does."""
        buffer = bytearray(data)
        with memoryview(buffer) as view:
            size = self.compact(view, len(buffer))
        return bytes(buffer[:size])

    def _take_head(self, data: bytes) -> int:
        """Take the missing bytes of a length from the beginning of ``data``; return how
        many there were."""
        if self.ended:
            raise FrameError("The stream goes on behind its end.")
        size = min(LENGTH_SIZE - len(self._head), len(data))
        self._head += data[:size]
        if len(self._head) == LENGTH_SIZE:
            self._left = int.from_bytes(self._head, "big")
            self._head = b""
            self.ended = self._left == 0
        return size
