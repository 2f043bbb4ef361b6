"""Socket options, and the one place where an OSError becomes an error of ours."""

import contextlib
import errno
import os
import socket
import sys
from typing import Any

from localtunnel.errors import ConnectionClosed, NetworkError, Unreachable

Socket = socket.socket
"""The only kind of socket here: plain, and non-blocking from ``prepare`` on."""

READ, WRITE = 1, 2
"""What a watcher waits for, as gevent's loop counts."""

KEEPALIVE_IDLE = 30
"""Seconds of silence before the first probe: below the idle time-outs of the home
routers that forget a flow."""

KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3

USER_TIMEOUT_MS = 60_000
"""How long sent bytes may stay unacknowledged (RFC 5482). Keepalive does not probe
while data is outstanding."""

_TCP_CLOSE_WAIT = 8
"""The state of a connection whose peer has sent a FIN (net/tcp_states.h), in the first
byte of ``struct tcp_info``."""

_TCP_INFO_UNACKED, _TCP_INFO_RTT, _TCP_INFO_SIZE = 24, 68, 72
"""Where Linux keeps ``tcpi_unacked``, in segments, and ``tcpi_rtt``, in microseconds,
within ``struct tcp_info`` (linux/tcp.h)."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

TIMED_OUT = frozenset((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH))
"""How a connection fails whose peer does not answer any more: Linux puts what a router
has said in the meantime in place of the time-out (tcp_write_err)."""

_CLOSED = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN))
_SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def prepare(sock: socket.socket, *, loopback: bool = False) -> None:
    """Make ``sock`` non-blocking, without delay, and unable to outlive a dead peer
    unnoticed.

    A peer on ``loopback`` cannot vanish without the kernel telling, so it needs no
    options for that.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if loopback:
        return
    keep_asking(sock)


def keep_asking(sock: socket.socket) -> None:
    """Let the kernel probe the peer now and then, and fail ``sock`` when it is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _LIVENESS:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def is_silent(sock: Socket) -> bool:
    """Return whether ``sock`` has nothing to read, not even its end. It takes nothing
    from ``sock``.

    Over TLS the encrypted bytes count: a part of a record is something to read.
    """
    try:
        Socket.recv(sock, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _liveness_options() -> list[tuple[int, int]]:
    wanted = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPALIVE": KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_COUNT,
        "TCP_USER_TIMEOUT": USER_TIMEOUT_MS,
    }
    return [(getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)]


_LIVENESS = _liveness_options()


def translate(error: OSError, doing: str) -> NetworkError:
    """Return ``error`` as one of ours; ``doing`` names the operation, such as "reading
    from the server"."""
    text = f"{doing[0].upper()}{doing[1:]} failed: {error.strerror or error}."
    if error.errno in _CLOSED:
        return ConnectionClosed(text)
    return Unreachable(text)


def acknowledge(sock: socket.socket) -> None:
    """Have the kernel acknowledge what has come on ``sock`` now, instead of waiting for
    data to send with it.

    A peer with Nagle's algorithm holds the rest of its answer back until then, which
    takes 40 ms on Linux. The option has to be set again each time (tcp(7),
    TCP_QUICKACK).
    """
    if _QUICKACK is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def smoothed_round_trip(sock: socket.socket) -> float:
    """Return the kernel's smoothed round trip of ``sock`` in seconds (RFC 6298), 0 if
    unknown."""
    return _tcp_info(sock, _TCP_INFO_RTT) / 1_000_000


def is_acknowledged(sock: socket.socket) -> bool:
    """Return whether the peer has acknowledged everything sent on ``sock``; True if
    unknown."""
    return _tcp_info(sock, _TCP_INFO_UNACKED) == 0


def has_peer_ended(sock: socket.socket) -> bool:
    """Return whether the peer of ``sock`` has sent its FIN, even if bytes before it are
    unread."""
    return _tcp_info(sock, 0) & 0xFF == _TCP_CLOSE_WAIT


def _tcp_info(sock: socket.socket, offset: int) -> int:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except (OSError, AttributeError):
        return 0
    return int.from_bytes(info[offset : offset + 4], sys.byteorder)


def source_towards(family: int, sockaddr: tuple[Any, ...]) -> str | None:
    """Return the address of this machine from which ``sockaddr`` would be reached now,
    None without a route.

    Connecting a datagram socket looks up the route and sends nothing.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(sockaddr)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def is_of_this_machine(family: int, sockaddr: tuple[Any, ...]) -> bool:
    """Return whether this machine still has the address ``sockaddr`` of one of its
    sockets."""
    host, _, *scope = sockaddr
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0, *scope))
    except OSError:
        return False
    return True


def pending_error(sock: socket.socket) -> int:
    """Return the errno with which ``sock`` has failed, 0 for none. Reading it clears
    it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def lowered(sock: socket.socket) -> socket.socket:
    """Move ``sock`` to the lowest free descriptor, and close the old one."""
    moved = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
    sock.close()
    return moved


def is_shortage(error: OSError) -> bool:
    """Return whether this process or machine has run out of descriptors or memory."""
    return error.errno in _SHORTAGE


def format_address(address: tuple[Any, ...]) -> str:
    """Return a socket address as text, an IPv4-mapped one (RFC 4291 2.5.5.2) as
    IPv4."""
    host, port = plain_host(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """Return ``host`` without the prefix of an IPv4-mapped address."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
