"""One visitor on its way to the upstream: dialled on the assignment, not before, then bytes only."""

import time
from typing import Any, Protocol

from localtunnel.client.upstream import Upstream
from localtunnel.errors import NetworkError, UpstreamRefused, VisitorError
from localtunnel.http import pages
from localtunnel.http.request import HeadReader, RequestHead
from localtunnel.net import closing
from localtunnel.net.relay import Relay, SocketEnd
from localtunnel.net.sockets import Socket


class Watcher(Protocol):
    """Who is told of a visit. ``visit_ended`` comes exactly once, after one of the other two or alone."""

    def visit_joined(self, visit: "Visit") -> None:
        """The upstream is connected."""

    def visit_failed(self, visit: "Visit", error: NetworkError) -> None:
        """The upstream could not be reached; the visitor has been answered."""

    def visit_ended(self, visit: "Visit") -> None:
        """Nothing of the visit is left."""


class Visit:
    """Owns the proxy connection ``sock`` from its making on; ``first`` are the visitor's bytes that came along."""

    def __init__(self, number: int, sock: Socket, first: bytes, upstream: Upstream, watcher: Watcher) -> None:
        self.number = number
        self.first = first
        self.reason: str | None = None
        self.started = time.monotonic()
        self._sock = sock
        self._upstream = upstream
        self._watcher = watcher
        self._relay: Relay | None = None
        self._dial: Any = None

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        return self._relay.from_a if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes to the visitor so far."""
        return self._relay.from_b if self._relay else 0

    @property
    def request_line(self) -> str | None:
        """The first line that the visitor sent, if it came along and is text."""
        line, end, _ = self.first.partition(b"\r\n")
        return line.decode("ascii", "replace") if end else None

    def start(self) -> None:
        """Dial the upstream and relay; whatever happens, the watcher is told."""
        self._dial = self._upstream.dial(self._dialled)

    def abort(self, reason: str) -> None:
        """Reset both connections now. May be called twice."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.reason is None:
            self._dial.cancel()
            closing.reset(self._sock)
            self._ended(reason)

    def _dialled(self, sock: Socket | None, _: object, error: NetworkError | None) -> None:
        if sock is None:
            self._answer(error or NetworkError("The upstream could not be reached."))
            return
        relay = self._relay = Relay(SocketEnd(self._sock, "server"), SocketEnd(sock, "upstream"), self._ended)
        self._watcher.visit_joined(self)
        relay.start(to_b=self.first)

    def _answer(self, error: NetworkError) -> None:
        """Tell the visitor that the upstream is down; the exact error is for the client's user only."""
        public = UpstreamRefused("The tunnel is up, but the program behind it does not accept connections.")
        try:
            self._sock.send(pages.error_answer(public, self._head()))
        except OSError:
            closing.close(self._sock)
        else:
            closing.linger(self._sock)
        self._watcher.visit_failed(self, error)
        self._ended("upstream refused")

    def _head(self) -> RequestHead | None:
        try:
            return HeadReader().feed(self.first)
        except VisitorError:
            return None

    def _ended(self, reason: str) -> None:
        self.reason = reason
        self._watcher.visit_ended(self)
