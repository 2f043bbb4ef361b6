"""Sockets for tests, all of gevent's kind but those that are given to the code under test."""

import fcntl
import random
import socket as plain_socket
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from gevent import socket

from harness.waiting import CAP, wait_until

LOOPBACK = "127.0.0.1"

Address = tuple[str, int]

_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
"""From linux/in.h and linux/in6.h: Python has no names for them."""


def connect(address: Address, source: str | None = None, cap: float = CAP) -> socket.socket:
    """Return a gevent socket connected to ``address``, on which nothing waits longer than ``cap``."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.settimeout(cap)
    if source is not None:
        sock.bind((source, 0))
    sock.connect(address)
    return sock


def listening(host: str = LOOPBACK, port: int = 0, backlog: int = 64) -> socket.socket:
    """Return a listening gevent socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(backlog)
    return sock


@contextmanager
def silent_listener() -> Iterator[Address]:
    """Yield an address that neither accepts nor refuses: its queue is full, so that the kernel drops every SYN."""
    listener = listening(backlog=0)
    fillers = [plain_socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    try:
        yield listener.getsockname()
    finally:
        for sock in (*fillers, listener):
            sock.close()


def wait_until_arrived(sock: plain_socket.socket) -> None:
    """Wait until all that was sent on ``sock`` has been acknowledged, so that its peer can read it."""
    wait_until(lambda: not any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))), what="everything has arrived")


def deafen(sock: plain_socket.socket) -> None:
    """Have the kernel drop every packet that comes for ``sock``, unanswered, as a network does that has lost the flow.

    What the peer sends stays unacknowledged, and neither side is told. The socket takes only packets that no router can
    have passed on, and those of this machine set out with fewer hops left than that (ip(7), IP_MINTTL). It needs no
    rights, as a packet filter does on some machines.
    """
    if sock.family == plain_socket.AF_INET6:
        sock.setsockopt(plain_socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, 255)
    else:
        sock.setsockopt(plain_socket.IPPROTO_IP, _IP_MINTTL, 255)


_BLOCK = 100
"""So many ports each process that runs tests has for itself."""


class _Ports:
    """A block of ports that belongs to this process, of several that run tests at the same time.

    The claim is a socket in the kernel's own name space (unix(7), abstract), which ends with the process. All lie below
    the ephemeral range, so no dial can be given one by chance.
    """

    def __init__(self) -> None:
        self._claim = plain_socket.socket(plain_socket.AF_UNIX)
        self._block = self._claim_block()
        self._given = 0

    def next(self, count: int) -> range:
        """Return ``count`` ports in a row, those first that have not been given for the longest time."""
        if self._given % _BLOCK + count > _BLOCK:
            self._given += _BLOCK - self._given % _BLOCK
        first = self._block + self._given % _BLOCK
        self._given += count
        return range(first, first + count)

    def _claim_block(self) -> int:
        blocks = list(range(10_000, 21_000, _BLOCK))
        random.shuffle(blocks)
        for block in blocks:
            try:
                self._claim.bind(f"\0localtunnel-test-ports-{block}")
            except OSError:
                continue
            return block
        raise AssertionError("every block of ports belongs to another process that runs tests")


_ports = _Ports()


def unused_port(host: str = LOOPBACK, count: int = 1) -> int:
    """Return a port on which nothing listens, the first of ``count`` in a row, that no other process of tests uses."""
    family = plain_socket.AF_INET6 if ":" in host else plain_socket.AF_INET
    for _ in range(_BLOCK):
        ports = _ports.next(count)
        if all(_is_unused(family, host, port) for port in ports):
            return ports[0]
    raise AssertionError(f"no {count} ports in a row are unused")


def _is_unused(family: int, host: str, port: int) -> bool:
    with plain_socket.socket(family) as sock:
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def pair() -> tuple[plain_socket.socket, socket.socket]:
    """Return two connected TCP sockets: a plain non-blocking one for the code under test, and the test's own."""
    with plain_socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        ours = connect(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.setblocking(False)
    return theirs, ours


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Return the next ``size`` bytes; fails when the stream ends before."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the stream ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def read_to_end(sock: socket.socket) -> bytes:
    """Return everything up to EOF. A reset raises ConnectionResetError."""
    data = bytearray()
    while piece := sock.recv(256 * 1024):
        data += piece
    return bytes(data)


def is_reset(sock: socket.socket) -> bool:
    """Read ``sock`` to its end and say whether that was a reset and not an EOF."""
    try:
        read_to_end(sock)
    except ConnectionResetError:
        return True
    return False
