"""One visitor: the upstream is dialled on its assignment, not before, and then its
bytes are relayed."""

import time
from collections.abc import Callable
from typing import Protocol

import gevent

from localtunnel.client.visits.requests import RequestTap
from localtunnel.client.visits.upstream import Upstream
from localtunnel.errors import (
    ConnectionRefused,
    DeadlineExceeded,
    FrameError,
    NetworkError,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
    VisitorError,
)
from localtunnel.http import observer
from localtunnel.http.message.request import HeadReader, RequestHead
from localtunnel.http.pages import errors as pages
from localtunnel.net import closing
from localtunnel.net.closing import Lingering
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.tapped import TappedRelay
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.stream_end import begin_stream, stream_end
from localtunnel.protocol.messages import Assignment, Failed, Got, Ready
from localtunnel.protocol.wire.codec import encode
from localtunnel.protocol.wire.stream import Unchunker

GiveBack = Callable[[End, int, bool], None]
"""Takes ownership of a proxy connection whose stream has ended, and gets the number of
its bytes that were written to the upstream, and whether others were not."""


MAX_AHEAD = 16 * 1024
"""Bytes that the server takes in any case: its kernel has room for them, even if their
visitor reads nothing. What is behind more than that may not be seen for minutes."""


class Watcher(Protocol):
    """The owner of visits, which is told of each. ``visit_ended`` comes exactly once,
    last."""

    lingering: Lingering
    """It closes the connections of visitors that were told of a failure."""

    half_closed: HalfClosed
    """It checks the visits of which one side has ended."""

    def visit_joined(self, visit: "Visit") -> RequestTap | None:
        """Handle that the upstream is connected; return the tap of the bytes, if
        any."""

    def visit_failed(self, visit: "Visit", error: NetworkError) -> None:
        """Handle that the upstream could not be reached; the visitor is answered
        without this."""

    def visit_ended(self, visit: "Visit") -> None:
        """Handle the end of the visit."""


class Visit:
    """Owns the proxy connection ``sock``; ``first`` are bytes of the visitor that came
    with the assignment.

    ``assignment`` is None in LTP/0.2, where the client itself answers a visitor whose
    upstream is down. In LTP/0.3 it tells the server ``got``, ``ready`` or ``failed``.
    ``give_back`` and ``real_ip`` as in ``Visits.begin``.
    """

    def __init__(
        self,
        number: int,
        sock: Socket,
        assignment: Assignment | None,
        first: bytes,
        upstream: Upstream,
        watcher: Watcher,
        give_back: GiveBack | None = None,
        *,
        real_ip: bool = False,
    ) -> None:
        self.number = number
        self.assignment = assignment
        self.first = first
        """The bytes that came with the assignment, until the upstream has them."""
        self.real_ip = real_ip
        self.tap: RequestTap | None = None
        self.has_failed = False
        self.reason: str | None = None
        self.started = time.monotonic()
        self._sock = sock
        self._upstream = upstream
        self._watcher = watcher
        self._give_back = give_back
        self._relay: TappedRelay | None = None
        self._stream: Unchunker | None = None
        self._dialling: gevent.Greenlet | None = None
        self._answer = b"" if assignment is None else encode(Got(assignment.id))

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        return self._relay.from_a if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes to the visitor so far."""
        return self._relay.from_b if self._relay else 0

    @property
    def peer(self) -> str | None:
        """The visitor's address, if the server tells it."""
        return None if self.assignment is None else self.assignment.peer

    @property
    def is_http(self) -> bool:
        """Whether the visitor should speak HTTP. In LTP/0.2 all do."""
        return self.assignment is None or self.assignment.kind == "http"

    @property
    def was_joined(self) -> bool:
        """Whether the upstream was connected."""
        return self._relay is not None

    def head(self) -> RequestHead | None:
        """Return the request that came with the assignment, if it was whole."""
        try:
            return HeadReader(observer.MAX_HEAD, observer.MAX_FIELDS).feed(self.first)
        except VisitorError:
            return None

    def start(self) -> None:
        """Dial the upstream and relay; the watcher is told of the end in any case.

        ``got`` goes out at once, in one piece with ``ready`` if the upstream is
        connected at once, as nearly all are. Only a wait costs a greenlet.
        """
        try:
            self._stream, self.first = begin_stream(self._sock, self.first)
        except FrameError:
            self._give_up("server failed")
            return
        upstream = self._upstream.dial_at_once()
        if upstream is not None:
            self._join(upstream)
        elif self._send(b""):
            self._dialling = gevent.spawn(self._wait_for_upstream)
        else:
            self._give_up("server gone")

    def abort(self, reason: str) -> None:
        """Reset both connections now. Idempotent."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.reason is None:
            if self._dialling is not None:
                self._dialling.kill(block=False)
            self._give_up(reason)

    def _wait_for_upstream(self) -> None:
        try:
            upstream = self._upstream.dial()
        except NetworkError as error:
            if self.reason is None:
                self._fail(error)
        else:
            if self.reason is None:
                self._join(upstream)
            else:
                # Aborted in the very turn of the hub in which it was connected.
                closing.close(upstream)
        finally:
            self._dialling = None

    def _join(self, upstream: Socket) -> None:
        if self.assignment is not None and not self._send(encode(Ready(self.assignment.id))):
            closing.reset(upstream)
            self._give_up("server gone")
            return
        goes_on = self._give_back is not None
        server = stream_end(SocketEnd(self._sock, "server"), self._stream, goes_on=goes_on)
        self.tap = self._watcher.visit_joined(self)
        # Prompt: many servers send the head of an answer by itself, and the body only
        # once that is acknowledged.
        relay = self._relay = TappedRelay(
            server,
            SocketEnd(upstream, "upstream"),
            self._ended,
            tap=self.tap,
            prompt=True,
            half_closed=self._watcher.half_closed,
            give_back=self._hand_back if goes_on else None,
            # A server that reads HTTP ends its direction behind a whole answer.
            ends_when_answered=self.real_ip and goes_on,
        )
        first, self.first = self.first, b""
        relay.start(to_b=first)

    def _hand_back(self, end: End) -> None:
        """Give the connection back, unless the server may be kept from reading on by a
        visitor who does not.

        The pool would be full of such connections, and have none for other visitors.
        """
        relay = self._relay
        # A server that reads HTTP has read the answer to its end before it ends its own
        # direction.
        is_read = self.real_ip and self.tap is not None and self.tap.is_at_rest
        if self._give_back is None or relay is None or not (is_read or relay.from_b <= MAX_AHEAD):
            end.close()
        else:
            self._give_back(end, relay.delivered, relay.delivered < relay.from_a)

    def _fail(self, error: NetworkError) -> None:
        """Tell the visitor that the upstream is down. The exact error is for the
        client's user only."""
        if self.assignment is None:
            self._send(pages.error_answer(failure_of(error), self.head()))
        else:
            self._send(encode(Failed(self.assignment.id, failure_of(error).word)))
        self._watcher.lingering.linger(self._sock)
        self.has_failed = True
        self._watcher.visit_failed(self, error)
        self._ended("upstream failed")

    def _send(self, data: bytes) -> bool:
        """Send the pending answer and ``data``: few bytes on an idle connection, which
        never wait."""
        data, self._answer = self._answer + data, b""
        try:
            return not data or self._sock.send(data) == len(data)
        except OSError:
            return False

    def _give_up(self, reason: str) -> None:
        closing.reset(self._sock)
        self._ended(reason)

    def _ended(self, reason: str) -> None:
        self.reason = reason
        self._watcher.visit_ended(self)


def failure_of(error: NetworkError) -> UpstreamError:
    """Return what a visitor may know about a failure to connect the upstream."""
    if isinstance(error, DeadlineExceeded):
        return UpstreamTimeout()
    if isinstance(error, ConnectionRefused):
        return UpstreamRefused()
    return UpstreamUnreachable()
