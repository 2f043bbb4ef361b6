"""Large flows inside the kernel: from a socket into a pipe, and from the pipe into another socket (splice(2), Linux).

The bytes are not copied and this process never sees them: on loopback a GB costs less than half the CPU time that
reading and writing it costs. A flow that stays large borrows a pipe; pipes are few, and every flow without one is read
and written as ever, which is also what happens where the kernel has no splice.
"""

import errno
import fcntl
import os

PIPE_SIZE = 1 << 20
"""Bytes that one pipe holds, and so what one readiness event moves at most: the largest that Linux gives a user who is
not root (/proc/sys/fs/pipe-max-size). 64 KiB, the default, cost 1.7 times the CPU time."""

MIN_PIPE_SIZE = 256 * 1024
"""A smaller pipe gains too little. The kernel shrinks the pipes of a user who has many (pipe-user-pages-soft in
proc_sys_fs(5)), and then nobody here should ask for more."""

MAX_PIPES = 16
"""Pipes of this process at the same time: 32 descriptors, and 16 of the 64 MiB after which the kernel shrinks them. A
machine's cores are busy long before so many flows move as fast as they can."""

LARGE = 64 * 1024
"""Bytes of one read from which a flow counts as large: below, two calls of splice cost as much as copying."""

SMALL = 8 * 1024
"""Bytes of one move below which it is large no more, and gives its pipe back."""

AFTER = 1 << 20
"""Bytes that a flow moves before it gets a pipe, and again before it gets another: making one costs 15 µs."""


class Pipe:
    """What is between two sockets: ``len`` is the number of bytes in it. Whoever took it closes it, once."""

    __slots__ = ("_held", "_read", "_write")

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def fill(self, source: int, limit: int) -> int:
        """Move up to ``limit`` bytes in from the socket ``source``: how many, 0 at its end. The pipe must be empty.

        Raises BlockingIOError when there is nothing, and whatever a read would raise.
        """
        self._held = os.splice(source, self._write, min(limit, PIPE_SIZE), flags=_FLAGS)
        return self._held

    def drain(self, target: int) -> None:
        """Move as many bytes as go out to the socket ``target``; raises what a write would raise."""
        # Never more than there is: the kernel would hold the last packet back for what is to follow.
        self._held -= os.splice(self._read, target, self._held, flags=_FLAGS)

    def read(self) -> bytes:
        """Take everything out."""
        data = os.read(self._read, self._held)
        self._held = 0
        return data

    def close(self) -> None:
        """Close it; what is in it is lost."""
        global _open
        _open -= 1
        self._held = 0
        os.close(self._read)
        os.close(self._write)


_open = 0
_most = MAX_PIPES if hasattr(os, "splice") else 0
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if _most else 0


def opened() -> int:
    """Return how many pipes are taken."""
    return _open


def take() -> Pipe | None:
    """Return an empty pipe, or None where there is none to be had: that is no error, and the flow goes on without."""
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
