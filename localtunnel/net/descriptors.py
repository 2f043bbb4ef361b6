"""The kernel's table of this process's descriptors, grown before visitors come."""

import fcntl
import os
import resource

RESERVED = 4096
"""Descriptors that fit in the table from the start: 8 bytes of kernel memory each, and more than most pools need."""


def reserve(count: int = RESERVED) -> None:
    """Make the kernel's table of descriptors large enough for ``count``, or for as many as the process may have.

    The table doubles when it is full, at 64, 128 and so on. In a process with threads Linux then waits for an RCU grace
    period (expand_fdtable in fs/file.c), and the whole hub with it: 5 to 20 ms, in the middle of a burst.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = (count if soft == resource.RLIM_INFINITY else min(count, soft)) - 1
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, highest))
    finally:
        os.close(descriptor)
