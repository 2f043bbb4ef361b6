"""One control connection: opening the tunnel, answering heartbeats, and the pool that lives as long as it does."""

import getpass
import itertools
import logging
import platform
import secrets
import time
from collections.abc import Callable
from typing import NoReturn

from localtunnel.client.config import ClientConfig
from localtunnel.client.events import Event, UpstreamFailed, VisitorJoined, VisitorLeft
from localtunnel.client.proxies import Proxies
from localtunnel.client.upstream import Upstream
from localtunnel.client.visit import Visit
from localtunnel.errors import (
    ConnectionClosed,
    MessageError,
    NameUnavailable,
    NetworkError,
    RefusedError,
    RemoteFailure,
    TunnelExpired,
    VersionError,
)
from localtunnel.net import closing
from localtunnel.net.address import HostPort
from localtunnel.net.channel import Channel, client_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, dial, resolve
from localtunnel.net.sockets import Socket
from localtunnel.protocol import limits, messages
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.protocol.messages import ControlReply, ControlRequest, ErrorReply, FromServer, Ping, ProxyRequest

log = logging.getLogger("localtunnel.client")


def identity() -> str:
    """Return who this client is, ``user@host;System;instance``: two terminals of one laptop must not be the same."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    text = f"{user}@{platform.node() or 'unknown'};{platform.system()};{secrets.token_hex(8)}"
    return "".join(char if char.isprintable() else "?" for char in text)[-limits.MAX_CLIENT_ID :]


class Visits:
    """The visitors that are being served: they outlive the session in which they came."""

    def __init__(self, upstream: Upstream, report: Callable[[Event], None]) -> None:
        self._upstream = upstream
        self._report = report
        self._numbers = itertools.count(1)
        self._visits: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._visits)

    def begin(self, sock: Socket, first: bytes) -> None:
        """Take over an assigned proxy connection."""
        visit = Visit(next(self._numbers), sock, first, self._upstream, self)
        self._visits.add(visit)
        visit.start()

    def abort_all(self, reason: str) -> None:
        """Reset every visitor's connection."""
        for visit in list(self._visits):
            visit.abort(reason)

    def visit_joined(self, visit: Visit) -> None:
        """Report a visitor that reached the upstream."""
        self._report(VisitorJoined(visit.number, None, visit.request_line))

    def visit_failed(self, visit: Visit, error: NetworkError) -> None:
        """Report a visitor that did not."""
        self._report(UpstreamFailed(visit.number, str(self._upstream), error.code, str(error)))

    def visit_ended(self, visit: Visit) -> None:
        """Report and forget a visitor that has gone."""
        self._visits.discard(visit)
        seconds = time.monotonic() - visit.started
        self._report(VisitorLeft(visit.number, visit.received, visit.sent, seconds, visit.reason or "closed"))


class Session:
    """One control connection, from dialling to its end; the visitors that came through it outlive it."""

    def __init__(self, config: ClientConfig, name: str, client: str, visits: Visits) -> None:
        self._config = config
        self._name = name
        self._client = client
        self._visits = visits
        self._opened_at: float | None = None

    @property
    def opened(self) -> bool:
        """Whether the server accepted the tunnel."""
        return self._opened_at is not None

    @property
    def lasted(self) -> float:
        """Seconds since the server accepted the tunnel, 0 before."""
        return 0.0 if self._opened_at is None else time.monotonic() - self._opened_at

    def run(self, backend: HostPort, opened: Callable[[ControlReply], None]) -> NoReturn:
        """Open the tunnel, call ``opened(reply)``, and keep it up; blocks the greenlet until it ends.

        Raises the reason for the end: a NetworkError, a ProtocolError or a RefusedError. Visitors go on.
        """
        deadline = Deadline(self._config.timeouts.connect)
        sock, address = dial(resolve([backend.host], backend.port, deadline), deadline)
        channel = client_channel(sock, f"the server at {backend}")
        proxies: Proxies | None = None
        try:
            reply = self._open(channel)
            channel.limit(limits.MAX_HEARTBEAT)
            self._opened_at = time.monotonic()
            opened(reply)
            proxies = self._proxies(channel, address, reply)
            proxies.fill()
            self._answer_heartbeats(channel)
        finally:
            if proxies is not None:
                proxies.close()
            channel.close()

    def _open(self, channel: Channel[FromServer]) -> ControlReply:
        channel.send(ControlRequest(self._name, self._client), header=LTP_0_2)
        message = channel.receive(Deadline(self._config.timeouts.reply))
        if isinstance(message, ErrorReply):
            raise refusal(message)
        if not isinstance(message, ControlReply):
            raise MessageError("The server answered the control request with something else.")
        return message

    def _proxies(self, channel: Channel[FromServer], address: Address, reply: ControlReply) -> Proxies:
        """The pool dials the very address that the control connection has: that is where the server knows us."""

        def refused(error: ErrorReply) -> None:
            log.warning("proxy connection refused", extra={"error": error.error, "detail": error.message})
            if error.error == messages.EXPIRED:
                closing.wake(channel.sock)

        request = ProxyRequest(self._name, self._client)
        return Proxies(address, request, reply.concurrency, self._config.timeouts.connect, self._visits.begin, refused)

    def _answer_heartbeats(self, channel: Channel[FromServer]) -> NoReturn:
        while True:
            message = channel.receive(Deadline(self._config.timeouts.heartbeat))
            if isinstance(message, Ping):
                channel.send(messages.PONG)
            elif isinstance(message, ErrorReply):
                raise refusal(message)


def refusal(reply: ErrorReply) -> RefusedError | VersionError | ConnectionClosed:
    """Return the error that a server's error message stands for."""
    text = reply.message or f"The server answered {reply.error!r}."
    if reply.error == messages.VERSION:
        return VersionError(text)
    kinds = {messages.UNAVAILABLE: NameUnavailable, messages.EXPIRED: TunnelExpired}
    return kinds.get(reply.error, RemoteFailure)(text)
