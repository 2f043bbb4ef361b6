"""Listening: a StreamServer that hands out plain non-blocking sockets, and stays calm
when descriptors run out."""

import errno
import logging
import socket
import time
from collections.abc import Callable

from gevent.server import StreamServer

from localtunnel.errors import ListenError
from localtunnel.net import closing
from localtunnel.net.address import LOOPBACK, Bind
from localtunnel.net.descriptors import Share
from localtunnel.net.sockets import Socket, format_address, is_shortage, lowered, plain_host, prepare

log = logging.getLogger("localtunnel.net")

BACKLOG = 4096
"""Connections that the kernel holds before they are accepted; it lowers this to
net.core.somaxconn."""

SHORTEST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
"""Seconds between two attempts to accept while descriptors are short, doubled after
each failure. gevent's own ``delay`` is of no use: its loop resets it whenever
``do_read`` returns."""

QUIET = 10.0
"""Seconds between two lines about the same shortage: it can come and go a hundred times
a second."""

Accept = Callable[[Socket, str, int], None]

ALL = Share()
"""The share of a listener whose connections may have every descriptor."""


class Listener(StreamServer):
    """Calls ``accept(sock, host, port)`` in the hub for every connection, with the
    peer's address; ``accept`` owns ``sock``.

    When the descriptors of its ``share`` run out, idle connections give way. If there
    are none, accepting pauses with growing delays, says so once, and resumes by itself.
    """

    max_accept = 16

    def __init__(self, listener: socket.socket, accept: Accept, what: str, share: Share = ALL) -> None:
        super().__init__(listener, handle=accept)
        self._what = what
        self._share = share
        self._told_at = -QUIET
        self._told = False
        self._pauses = 0
        self._pause_length = SHORTEST_PAUSE

    @property
    def bound(self) -> str:
        """The address that is listened on, as ``host:port``."""
        return format_address(self.address)

    def do_read(self) -> tuple[Socket, str, int] | None:
        """Accept one connection for the StreamServer's loop; None when there is none,
        or no descriptor for it."""
        try:
            sock, address = self.socket.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if is_shortage(error):
                if self._share.give_way():
                    return self.do_read()
                self._pause(error)
                return None
            if error.errno in (errno.ECONNABORTED, errno.EPERM, errno.EPROTO):
                return None
            raise
        self._pause_length = SHORTEST_PAUSE
        if self._told:
            self._told = False
            log.warning("accepting again", extra={"listener": self._what, "pauses": self._pauses})
        if sock.fileno() >= self._share.below and self._share.give_way():
            # The new connection takes the number that was freed; otherwise those of
            # clients would be used up one by one.
            sock = lowered(sock)
        return sock, plain_host(address[0]), address[1]

    def do_handle(self, sock: Socket, host: str, port: int) -> None:
        """Hand the connection, and its ownership, to ``accept``."""
        sock.setblocking(False)
        self._handle(sock, host, port)

    def do_close(self, *args: object) -> None:
        """Close nothing: ``accept`` has taken ownership of the socket."""

    def _pause(self, error: OSError) -> None:
        """Leave new connections in the kernel's queue for a moment; log that at most
        once in QUIET seconds."""
        self._pauses += 1
        now = time.monotonic()
        if now - self._told_at >= QUIET:
            log.error("cannot accept, pausing", extra={"listener": self._what, "error": error.strerror})
            self._told_at, self._told, self._pauses = now, True, 1
        self.stop_accepting()
        self._timer = self.loop.timer(self._pause_length)
        self._timer.start(self._start_accepting_if_started)
        self._pause_length = min(LONGEST_PAUSE, self._pause_length * 2)


def listen(bind: Bind, *, loopback: bool, accept: Accept, what: str, share: Share = ALL) -> list[Listener]:
    """Listen on ``bind`` and return a Listener for each socket, not started yet;
    ``stop`` closes it.

    Without a host it listens on the loopback addresses of both families if
    ``loopback``, else on all interfaces. Raises ListenError, with no socket left open.
    """
    sockets: list[socket.socket] = []
    try:
        for host in _hosts(bind, loopback=loopback):
            port = sockets[0].getsockname()[1] if sockets else bind.port
            sockets.append(_listening_socket(host, port, what))
    except BaseException:
        for sock in sockets:
            closing.close(sock)
        raise
    return [Listener(sock, accept, what, share) for sock in sockets]


def _hosts(bind: Bind, *, loopback: bool) -> tuple[str, ...]:
    if bind.host is not None:
        return (bind.host,)
    if not _has_ipv6():
        return (LOOPBACK[0],) if loopback else ("0.0.0.0",)
    return LOOPBACK if loopback else ("::",)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _listening_socket(host: str, port: int, what: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _listen_error(host, port, what, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        sock.bind((host, port))
        # Accepted connections inherit the options, which saves six system calls for
        # each.
        prepare(sock)
        sock.listen(BACKLOG)
    except OSError as error:
        closing.close(sock)
        raise _listen_error(host, port, what, error) from error
    return sock


def _listen_error(host: str, port: int, what: str, error: OSError) -> ListenError:
    address = format_address((host, port))
    advice = {
        errno.EADDRINUSE: "another program has it; stop that one, or choose another port with",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose another port with",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address; choose another one with",
    }.get(error.errno or 0, f"{error.strerror or error}; choose another address with")
    return ListenError(f"Cannot listen on {address}: {advice} --{what}.")
