"""How many descriptors this process has, which are for visitors, and the kernel's table
of them."""

import contextlib
import fcntl
import os
import resource
from collections.abc import Callable
from typing import NamedTuple

MOST = 1 << 20
"""The most descriptors to ask for: the default limit of Linux (fs.nr_open). Some
containers have a hard limit of a billion."""

BACKEND_PART = 4
"""One in so many descriptors is for connections of clients alone. A visitor waits for a
connection of the client; if visitors had every descriptor, they would wait in vain."""

RESERVED = 4096
"""Descriptors that fit in the table from the start, for 8 bytes of kernel memory each:
more than most pools need."""


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard one; return the limit before and after.

    The soft limit is often 1024, for programs that use select(2).
    """
    before = limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if before < wanted:
        # macOS reports no limit, and refuses to be given none.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before, limit()


def limit() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


class Share(NamedTuple):
    """Which descriptors the connections of a listener may have, and what makes room.

    ``give_way()`` closes a connection that is not in use, and returns whether there was
    one. The kernel gives out the lowest free number, so the number of a new descriptor
    tells how many are in use: it has to be ``below`` this one.
    """

    below: int = MOST
    give_way: Callable[[], bool] = lambda: False


def for_visitors() -> int:
    """Return the ``below`` of visitors' connections."""
    return limit() - limit() // BACKEND_PART


def reserve(count: int = RESERVED) -> None:
    """Grow the kernel's table of descriptors to ``count``, or to the limit of the
    process.

    The table doubles when it is full, at 64, 128 and so on. In a process with threads
    Linux then waits for an RCU grace period (expand_fdtable in fs/file.c), and the
    whole hub with it: 5 to 20 ms, in the middle of a burst.
    """
    highest = min(count, limit()) - 1
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, highest))
    finally:
        os.close(descriptor)
