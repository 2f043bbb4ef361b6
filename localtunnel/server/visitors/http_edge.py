"""The HTTP edge: every request is routed, checked and forwarded by itself.

``connection`` reads the requests and ``exchange`` answers them. This module stands
between the two, and decides everything about a request before a tunnel gets it.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial

import gevent

from localtunnel.errors import Forbidden, PoolExhausted, TunnelNotFound, VisitorError
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.forwarding.visitor import identify
from localtunnel.http.message.request import RequestHead
from localtunnel.http.options.cors import ALLOW_FIELDS, is_preflight, preflight_answer
from localtunnel.http.pages import errors as pages
from localtunnel.net.address import parse_public
from localtunnel.net.closing import Lingering
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.hangups import HangUps
from localtunnel.net.sockets import Socket, format_address
from localtunnel.networks import Networks
from localtunnel.protocol.messages import Assignment
from localtunnel.server.config import ServerConfig
from localtunnel.server.limits.turns import Turns
from localtunnel.server.visitors.admission import Admission
from localtunnel.server.visitors.connection import Connection
from localtunnel.server.visitors.connections import Connections
from localtunnel.server.visitors.delivery import CLIENT_GONE
from localtunnel.server.visitors.exchange import Exchange
from localtunnel.server.visitors.routes import Routes


class Edge:
    """Admits connections, and routes and checks the requests that they bring."""

    def __init__(
        self,
        config: ServerConfig,
        routes: Routes,
        admission: Admission,
        ids: "itertools.count[int]",
        lingering: Lingering,
        hang_ups: HangUps,
    ) -> None:
        self.connections: Connections[Connection] = Connections(
            config, lingering, hang_ups, self.requested, self.answer
        )
        self._domain = config.domain
        self._pool_wait = config.timeouts.pool_wait
        self._trusted = Networks.parse(config.trusted_proxies)
        self._proto = parse_public(config.public_url).scheme if config.public_url else "http"
        self._routes = routes
        self._admission = admission
        self._ids = ids
        self._loop = gevent.get_hub().loop
        self._turns = Turns(partial(self._later, 0.0))

    def accept(self, sock: Socket, host: str, port: int, received: bytes = b"") -> None:
        """Take over a visitor's connection; ``received`` was read from it before."""
        is_shared = host in self._trusted
        connection = Connection(self.connections, sock, host, port, Forwarding(host, self._proto), is_shared=is_shared)
        now = time.monotonic()
        try:
            connection.place = self._admission.enter(host, connection, now, sock.fileno())
        except VisitorError as error:
            if self._admission.may_answer(now):
                connection.answer(error, None)
            else:
                connection.reset()
        else:
            connection.start(received)

    def stop(self) -> None:
        """Close every connection without a whole request; the others close later."""
        self.connections.stop()

    def requested(
        self, connection: Connection, head: RequestHead, rest: memoryview, deadline: Deadline | None = None
    ) -> None:
        """Have the request ``head`` answered, behind which ``rest`` has come.

        ``deadline`` is that of a request that was here before. Raises VisitorError for
        a request that is refused.
        """
        now = time.monotonic()
        # A request that begins anew was counted when it came.
        counts = deadline is None
        try:
            address = self._admit(connection, head, now, counts=counts)
        except VisitorError as error:
            self._routes.refused(head, error)
            raise
        try:
            found = self._routes.find(head, address, counts=counts)
        except TunnelNotFound as error:
            if deadline is None:
                raise
            # The tunnel was there when the visitor asked, and is likely to come back.
            raise PoolExhausted(CLIENT_GONE) from error
        if isinstance(found, bytes):
            connection.send_last(found)
            return
        try:
            if found.rules is not None:
                found.rules.check(head, address)
                preflight = found.rules.preflight_answer(head)
                if preflight is not None:
                    connection.send_last(preflight)
                    return
            delay = 0.0 if found.requests is None else found.requests.reserve(now)
            exchange = Exchange(
                connection,
                found,
                head,
                rest,
                lambda: Assignment(next(self._ids), format_address((address, connection.port)), "http"),
                deadline or Deadline(self._pool_wait),
            )
        except VisitorError as error:
            found.refused(error)
            raise
        if delay:
            self._later(delay, exchange.start)
        else:
            self._turns.begin(found.turn, exchange.start, self._loop.now())
        if exchange.pending:
            exchange.wait()

    def answer(self, error: VisitorError, head: RequestHead | None) -> bytes:
        """Return the page about ``error``, which scripts can read if the tunnel has
        them.

        A browser asks with a preflight whether it may send a request, and takes an
        error for a no, so that the script would never learn why. So a preflight is
        answered with yes, and the request itself with the error.
        """
        if head is None or not self._routes.lets_scripts_in(head.host):
            return pages.error_answer(error, head, domain=self._domain)
        if is_preflight(head) and not isinstance(error, Forbidden):
            return preflight_answer(head)
        return pages.error_answer(error, head, domain=self._domain, fields=ALLOW_FIELDS)

    def _admit(self, connection: Connection, head: RequestHead, now: float, *, counts: bool) -> str:
        """Return the visitor's address. Raises TooManyRequests where the request
        ``counts``.
        """
        host = connection.host
        if not connection.is_shared:
            if counts and connection.place is not None:
                connection.place.request(now)
            return host
        visitor = identify(host, head.fields, self._trusted, self._proto)
        connection.forwarding = Forwarding(visitor.address, visitor.proto)
        if counts:
            self._admission.request(visitor.address, now)
        return visitor.address

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop.timer(seconds).start(callback)
