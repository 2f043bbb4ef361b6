"""One control connection: opening the tunnel, keeping it up, and its pool."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

import gevent
from greenlet import GreenletExit

from localtunnel.client.config import ClientConfig
from localtunnel.client.events import Event, RoundTripMeasured, ServerNotice, ServerPinned
from localtunnel.client.sessions.opening import Opening, refusal, say_goodbye
from localtunnel.client.sessions.path import Change, Path
from localtunnel.client.sessions.proxies import Proxies
from localtunnel.client.sessions.round_trip import RoundTrip
from localtunnel.client.sessions.stall import TICK, Stall
from localtunnel.client.trust.link import Link
from localtunnel.client.visits.visit import GiveBack
from localtunnel.client.visits.visits import Visits
from localtunnel.errors import (
    ClientReplaced,
    ConnectionClosed,
    TlsError,
)
from localtunnel.net import closing
from localtunnel.net.address import HostPort
from localtunnel.net.channel import Channel, client_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address
from localtunnel.net.heartbeat import keep_alive
from localtunnel.net.sockets import Socket, pending_error
from localtunnel.net.tls.context import is_tls
from localtunnel.protocol import limits, messages
from localtunnel.protocol.login.token import Token
from localtunnel.protocol.messages import (
    Assignment,
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    FromServer,
    Notice,
    Ping,
    ProxyRequest,
    Replaced,
)
from localtunnel.protocol.version import Version

log = logging.getLogger("localtunnel.client")

LAST_WORDS = 1.0
"""Seconds to go on reading the control connection after a proxy connection was told
that there is no such tunnel. Two TCP connections keep no order: the reason (``kicked``,
``replaced``, a revoked token) may arrive later, and then the tunnel must not be opened
again. A server holds the close after an error back for as long."""


class Session:
    """One control connection, from dialling to its end. Its visitors outlive it."""

    def __init__(
        self,
        config: ClientConfig,
        version: Version,
        request: ControlRequest,
        link: Link,
        visits: Visits,
        report: Callable[[Event], None],
        token: Token | None = None,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self._config = config
        self._link = link
        self.version = version
        self._request = request
        self._opening = Opening(version, request, token, config.timeouts.reply)
        self._visits = visits
        self._report = report
        self._opened_at: float | None = None
        self._round_trip = round_trip or RoundTrip()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._stall = Stall()
        self._expired: ErrorReply | None = None
        """The error by which a proxy connection has learnt that the tunnel has
        ended."""
        self.connected = False
        """Whether the backend was reached."""

    @property
    def name(self) -> str:
        """The requested name."""
        return self._request.name

    @property
    def answered(self) -> bool:
        """Whether the server has answered at all, if only with a TLS handshake."""
        return self._opening.answered

    @property
    def opened(self) -> bool:
        """Whether the server accepted the tunnel."""
        return self._opened_at is not None

    @property
    def lasted(self) -> float:
        """Seconds since the server accepted the tunnel, 0 before."""
        return 0.0 if self._opened_at is None else time.monotonic() - self._opened_at

    def run(self, backend: HostPort, opened: Callable[[ControlReply], None]) -> NoReturn:
        """Open the tunnel, call ``opened(reply)``, and keep it up; blocks the greenlet
        until it ends.

        Raises the reason for the end: a NetworkError, a ProtocolError, a RefusedError
        or a TrustError. Visitors go on. When the greenlet is killed, it tells the
        server that the name is free.
        """
        deadline = Deadline(self._config.timeouts.connect)
        try:
            encrypted = self.version.speaks_tls and not self._config.insecure
            sock, address = self._link.connect(backend, deadline, encrypted=encrypted)
        except ConnectionClosed:
            self.connected = True
            raise
        except TlsError as error:
            if self._config.backend is None:
                raise
            raise TlsError(error.fact, advice="Check --backend.") from error
        self.connected = True
        channel = client_channel(sock, self.version, f"the server at {backend}")
        proxies: Proxies | None = None
        timer = gevent.get_hub().loop.timer(TICK, TICK)
        last_words = gevent.get_hub().loop.timer(LAST_WORDS)
        try:
            reply = self._opening.run(channel)
            channel.limit(limits.MAX_HEARTBEAT)
            self._opened_at = time.monotonic()
            fingerprint = self._link.accepted(sock, self.version)
            if fingerprint is not None:
                trust = self._link.trust
                self._report(ServerPinned(trust.server, fingerprint, str(trust.path)))
            opened(reply)
            # Reaching the server may have taken longer than a stall.
            self._stall.tick()
            proxies = self._proxies(channel, address, reply, lambda: last_words.start(closing.wake, sock))
            proxies.fill()
            timer.start(self._tick, channel, proxies, Path(sock, address))
            self._converse(channel, proxies, reply)
        except ConnectionClosed as error:
            if self._expired is None:
                raise
            raise refusal(self._expired) from error
        except GreenletExit:
            self._release(channel)
            raise
        finally:
            timer.close()
            last_words.close()
            if proxies is not None:
                proxies.close()
            channel.close()

    def _proxies(
        self, channel: Channel[FromServer], address: Address, reply: ControlReply, expired: Callable[[], None]
    ) -> Proxies:
        """Return the pool, which dials the address of the control connection: other
        servers do not know the tunnel.

        ``expired`` is called once, when the server has no such tunnel any more.
        """

        def refused(error: ErrorReply) -> None:
            log.warning("proxy connection refused", extra={"error": error.error, "detail": error.message})
            if error.error == messages.EXPIRED and self._expired is None:
                self._expired = error
                proxies.drain()
                expired()

        def taken(sock: Socket, assignment: Assignment | None, first: bytes) -> None:
            self._link.keep_session(sock)
            give_back = proxies.take_back if reply.recycle is True and is_tls(sock) else None
            self._take(channel, sock, assignment, first, give_back, real_ip=reply.real_ip is True)

        client = None if self.version.has_sessions else self._request.client
        request = ProxyRequest(self._request.name, client, reply.session)
        timeout = self._config.timeouts.connect
        secure = self._link.dialler(channel.sock)
        proxies = Proxies(address, self.version, request, reply.concurrency, timeout, taken, refused, secure)
        return proxies

    def _take(
        self,
        channel: Channel[FromServer],
        sock: Socket,
        assignment: Assignment | None,
        first: bytes,
        give_back: GiveBack | None,
        *,
        real_ip: bool,
    ) -> None:
        """Begin a visit, unless the assignment is stale: older than a stall, given up
        by the server, or seen before."""
        if self._stood_still(channel):
            closing.reset(sock)
        elif assignment is None:
            self._visits.begin(sock, None, first)
        elif pending_error(sock):
            closing.close(sock)
        elif assignment.id in self._seen:
            self._visits.refuse_seen(sock, assignment)
        else:
            self._seen[assignment.id] = None
            if len(self._seen) > limits.SEEN_IDS:
                self._seen.popitem(last=False)
            self._visits.begin(sock, assignment, first, give_back, real_ip=real_ip)

    def _tick(self, channel: Channel[FromServer], proxies: Proxies, path: Path) -> None:
        """Check whether connections may be silently dead: after a stall, or because the
        path to the server changed.

        While the control connection has its address, heartbeats find out whether it
        still works.
        """
        if self._stood_still(channel):
            return
        self._stall.tick()
        change = path.look()
        if change is Change.GONE:
            log.warning("this machine's address has changed, reconnecting")
            closing.wake(channel.sock)
        elif change is Change.MOVED:
            log.info("the way to the server has changed, renewing the pool")
            proxies.renew()

    def _stood_still(self, channel: Channel[FromServer]) -> bool:
        """End the session if this machine has stood still: assignments are stale, and
        connections may be dead."""
        seconds = self._stall.seconds()
        if seconds:
            log.warning("this machine stood still, reconnecting", extra={"seconds": round(seconds, 1)})
            closing.wake(channel.sock)
        return bool(seconds)

    def _converse(self, channel: Channel[FromServer], proxies: Proxies, reply: ControlReply) -> NoReturn:
        if not self.version.speaks_freely:
            channel.limit_pace(limits.HEARTBEAT_INTERVAL)
            self._answer_pings(channel)
        keep_alive(channel, interval_of(reply), lambda message: self._handle(message, proxies), self._measured)

    def _answer_pings(self, channel: Channel[FromServer]) -> NoReturn:
        """LTP/0.2: answer the server's pings."""
        while True:
            message = channel.receive(Deadline(self._config.timeouts.heartbeat))
            if isinstance(message, Ping):
                channel.send(messages.PONG)
            elif isinstance(message, ErrorReply):
                raise refusal(message)

    def _handle(self, message: FromServer, proxies: Proxies) -> None:
        """LTP/0.3: handle a message other than a heartbeat."""
        match message:
            case Concurrency(size):
                proxies.resize(size)
            case Drain(seconds):
                proxies.drain()
                self._report(ServerNotice(f"The server stops within {seconds:g} s; the tunnel will reconnect."))
            case Notice(text):
                self._report(ServerNotice(text))
            case Replaced(text):
                raise ClientReplaced(text)
            case ErrorReply():
                raise refusal(message)

    def _measured(self, seconds: float) -> None:
        told = self._round_trip.measured(seconds)
        if told is not None:
            self._report(RoundTripMeasured(told))

    def _release(self, channel: Channel[FromServer]) -> None:
        if self.version.leases and self.opened:
            say_goodbye(channel)


def interval_of(reply: ControlReply) -> float:
    """Return the seconds between two heartbeats, as the server wishes, within bounds."""
    shortest, longest = limits.HEARTBEAT_BOUNDS
    return min(longest, max(shortest, reply.heartbeat or limits.HEARTBEAT_INTERVAL))
