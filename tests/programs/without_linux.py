"""Runs ``lt-client`` as on a system that is not Linux: what only Linux has is taken away before anything is imported.

Called as ``python without_linux.py ARGUMENT…``; a child of tests/end_to_end/test_elsewhere.py. What is hidden is what
macOS lacks, as far as Python would show it there.
"""

import _socket
import fcntl
import os
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

HIDDEN = {
    os: r"splice|SPLICE_.*|pipe2|sched_.*|SCHED_.*|posix_fadvise|POSIX_FADV_.*|posix_fallocate|memfd_create|MFD_.*"
    r"|eventfd.*|EFD_.*|getrandom|GRND_.*|copy_file_range|pidfd_open|O_PATH|O_TMPFILE|O_DIRECT|O_NOATIME|O_LARGEFILE",
    fcntl: r"F_[GS]ETPIPE_SZ|F_OFD_.*|F_ADD_SEALS|F_GET_SEALS|F_SEAL_.*|F_NOTIFY|F_[GS]ETLEASE|F_[GS]ETSIG|DN_.*",
    select: r"epoll|EPOLL.*",
    signal: r"SIGPWR|SIGSTKFLT|SIGPOLL|SIGCLD|SIGRT.*|sigtimedwait|sigwaitinfo",
    time: r"CLOCK_BOOTTIME|CLOCK_TAI",
    **dict.fromkeys(
        (socket, _socket),
        r"TCP_(?!NODELAY$|MAXSEG$|KEEPINTVL$|KEEPCNT$|FASTOPEN$|NOTSENT_LOWAT$).*|SOCK_CLOEXEC|SOCK_NONBLOCK"
        r"|SO_(PEERCRED|PASSCRED|DOMAIN|PROTOCOL|MARK|BINDTODEVICE|PRIORITY|PEERSEC|PASSSEC|INCOMING_CPU|REUSEPORT_LB)"
        r"|MSG_(NOSIGNAL|MORE|ERRQUEUE|CMSG_CLOEXEC|CONFIRM|FASTOPEN)"
        r"|IP_(BIND_ADDRESS_NO_PORT|TRANSPARENT|RECVORIGDSTADDR)",
    ),
}
"""Modules, and which of their names only Linux has."""

MEANT = ("splice", "pipe2", "F_SETPIPE_SZ", "epoll", "TCP_USER_TIMEOUT", "TCP_INFO", "TCP_KEEPIDLE", "CLOCK_BOOTTIME")
"""Some that have to be among them, so that a pattern that matches nothing is noticed."""


def hide() -> set[str]:
    """Take the names away, and /proc with them; return those that were there."""
    gone = set()
    for module, pattern in HIDDEN.items():
        for name in [name for name in vars(module) if re.fullmatch(pattern, name)]:
            delattr(module, name)
            gone.add(name)
        if hasattr(module, "__all__"):
            module.__all__ = [name for name in module.__all__ if name not in gone]

    def no_proc(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(arguments[0]))

    sys.addaudithook(no_proc)
    return gone


if __name__ == "__main__":
    missed = set(MEANT) - hide()
    if missed:
        sys.exit(f"not hidden: {missed}")
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from localtunnel.cli.client import main

    sys.exit(main())
