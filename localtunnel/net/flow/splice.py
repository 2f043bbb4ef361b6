"""Large flows inside the kernel: from a socket into a pipe, and from the pipe into
another socket (splice(2), Linux).

The bytes are not copied and this process never sees them: on loopback a GB costs less
than half the CPU time of reading and writing it. A flow that stays large borrows a
pipe. Pipes are few; a flow without one is read and written, as on a kernel without
splice.
"""

import errno
import fcntl
import os

PIPE_SIZE = 1 << 20
"""Bytes that one pipe holds, and so the most of one readiness event: the largest pipe
that Linux gives a user other than root (/proc/sys/fs/pipe-max-size). 64 KiB, the
default, cost 1.7 times the CPU time."""

MIN_PIPE_SIZE = 256 * 1024
"""A smaller pipe gains too little. The kernel shrinks the pipes of a user with many
(pipe-user-pages-soft in proc_sys_fs(5)); after that no more are asked for."""

MAX_PIPES = 16
"""Pipes of this process at a time: 32 descriptors, and 16 of the 64 MiB after which the
kernel shrinks them. So many flows at full speed are more than the cores of a machine
can serve."""

LARGE = 64 * 1024
"""A flow is large when one read brings so many bytes: below, two calls of splice cost
as much as copying."""

SMALL = 8 * 1024
"""A flow gives its pipe back when one move brings fewer bytes."""

AFTER = 1 << 20
"""Bytes that a flow moves before each pipe that it gets: making one costs 15 µs."""


class Pipe:
    """A pipe between two sockets; ``len`` is the number of bytes in it. The side that
    took it closes it, once."""

    __slots__ = ("_held", "_read", "_write")

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def fill(self, source: int, limit: int) -> int:
        """Move up to ``limit`` bytes in from the socket ``source``; return how many, 0
        at its end. The pipe must be empty.

        Raises BlockingIOError when there are none, and what a read would raise.
        """
        self._held = os.splice(source, self._write, min(limit, PIPE_SIZE), flags=_FLAGS)
        return self._held

    def drain(self, target: int) -> None:
        """Move out as many bytes as the socket ``target`` takes. Raises what a write
        would raise."""
        # Never more than the pipe holds: the kernel would delay the last packet,
        # expecting more.
        self._held -= os.splice(self._read, target, self._held, flags=_FLAGS)

    def read(self) -> bytes:
        """Return all bytes in the pipe, and empty it."""
        data = os.read(self._read, self._held)
        self._held = 0
        return data

    def close(self) -> None:
        """Close it; bytes in it are lost."""
        global _open
        _open -= 1
        self._held = 0
        os.close(self._read)
        os.close(self._write)


_open = 0
_most = MAX_PIPES if hasattr(os, "splice") else 0
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if _most else 0


def opened() -> int:
    """Return the number of pipes in use."""
    return _open


def take() -> Pipe | None:
    """Return an empty pipe, or None if there is none to be had: the flow goes on
    without one."""
    global _open, _most
    if _open >= _most:
        return None
    try:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # No descriptors are left for now.
        return None
    _open += 1
    pipe = Pipe(read, write)
    try:
        size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError as error:
        size = 0
        if error.errno not in (errno.EPERM, errno.ENOMEM):
            pipe.close()
            raise
    if size < MIN_PIPE_SIZE:
        pipe.close()
        _most = _open
        return None
    return pipe
