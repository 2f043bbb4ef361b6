"""The clients' door: accepts connections at the backend and sorts them.

A connection whose first message arrives with it is sorted in the accept callback. Any
other is an ``Arrival`` until its message has come. A proxy connection is then parked
and needs no greenlet. A control connection gets a greenlet of its own (``control``).
"""

import logging

from gevent.pool import Group

from localtunnel.errors import (
    DeadlineExceeded,
    HeaderError,
    LimitReached,
    LocaltunnelError,
    ProtocolError,
    VersionError,
)
from localtunnel.net import closing
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.context import is_tls
from localtunnel.protocol import messages
from localtunnel.protocol.messages import ControlRequest, FromClient, ProxyRequest
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.server.access.bans import Bans
from localtunnel.server.certificates.own import Certificate
from localtunnel.server.clients.arrival import Arrival
from localtunnel.server.clients.control import Control
from localtunnel.server.clients.session import ClientChannel
from localtunnel.server.clients.strangers import Stranger, Strangers
from localtunnel.server.config import ServerConfig
from localtunnel.server.limits.quotas import Quotas
from localtunnel.server.names.claims import Claim
from localtunnel.server.names.registry import Registry

log = logging.getLogger("localtunnel.server")

STOP_TIMEOUT = 1.0
"""Seconds for control connections to notice that the server stops. Nothing in them
takes longer."""

BANNED = "The operator of this server admits no clients from your address."


class Backend:
    """Takes each connection at the backend from its first byte to its tunnel."""

    def __init__(
        self,
        config: ServerConfig,
        certificate: Certificate,
        registry: Registry,
        control: Control,
        quotas: Quotas,
        bans: Bans,
    ) -> None:
        self._config = config
        self._certificate = certificate
        self._registry = registry
        self._control = control
        self._quotas = quotas
        self._bans = bans
        self._last_words = control.last_words
        self._versions = _versions(config)
        self._speaks_tls = any(version.speaks_tls for version in self._versions)
        self._strangers = Strangers(config.quotas, lambda host: quotas.tunnels.has(host) or quotas.leases.has(host))
        self._arrivals: dict[Arrival, Stranger] = {}
        self._sessions = Group()

    @property
    def arriving(self) -> int:
        """The number of connections whose first message has not arrived."""
        return len(self._arrivals)

    def stop(self) -> None:
        """End all tunnels, and all connections that have none yet.

        Blocks until they have ended.
        """
        self._registry.close()
        for arrival in self._arrivals:
            arrival.cancel()
        self._arrivals.clear()
        self._sessions.join(timeout=STOP_TIMEOUT)
        self._sessions.kill()

    def accept(self, sock: Socket, host: str, port: int) -> None:
        """Take ownership of a new connection. A listener's callback.

        A connection from a banned address is closed without an answer, since the answer
        costs more than the connection did. A few are told (``Bans.may_be_told``), so
        that a client stops instead of coming back.
        """
        if self._bans.hold(host) and not self._bans.may_be_told(host):
            closing.close(sock)
            return
        context = self._certificate.context if self._speaks_tls else None
        arrival = Arrival(sock, host, context, self._config.timeouts, self._arrived)
        self._arrivals[arrival] = self._strangers.take(host, lambda: self._give_up(arrival))
        arrival.start()

    def _give_up(self, arrival: Arrival) -> None:
        """Close a connection because a newcomer needs its place."""
        log.debug("connection gave way", extra={"peer": arrival.host})
        del self._arrivals[arrival]
        arrival.cancel()

    def _arrived(self, arrival: Arrival, message: FromClient | None, error: LocaltunnelError | None) -> None:
        place = self._arrivals.pop(arrival)
        if self._bans.hold(arrival.host):
            place.release()
            self._refuse_banned(arrival.channel, message)
            return
        if error is None:
            error = self._not_spoken(arrival.channel)
        if isinstance(message, ControlRequest) and error is None:
            # The client stays a stranger until it has proved its identity.
            place.give_up = lambda: closing.wake(arrival.channel.sock)
            self._sessions.spawn(self._control.serve, arrival.channel, message, arrival.host, place)
            return
        place.release()
        if error is not None:
            self._refuse(arrival.channel, error, arrival.host)
        elif isinstance(message, ProxyRequest):
            self._park(arrival.channel, message, arrival.host)

    def _not_spoken(self, channel: ClientChannel) -> VersionError | None:
        """Return the error for a version that this server does not speak here."""
        if channel.version not in self._versions:
            spoken = ", ".join(sorted(str(version) for version in self._versions))
            return VersionError(f"This server speaks {spoken} only.")
        if is_tls(channel.sock) and not channel.version.speaks_tls:
            return VersionError("Over TLS this server speaks LTP/0.3 only.")
        return None

    def _park(self, channel: ClientChannel, request: ProxyRequest, host: str) -> None:
        claim = self._registry.find(request.name)
        tunnel = claim.tunnel if claim is not None else None
        if claim is None or tunnel is None or tunnel.ended:
            self._last_words.error(channel, messages.EXPIRED, f"There is no tunnel {request.name!r}; open it first.")
        elif not self._is_its_client(claim, channel, request, host):
            log.warning("proxy connection refused", extra={"tunnel": tunnel.name, "peer": host})
            self._last_words.error(
                channel, messages.UNAVAILABLE, f"The tunnel {request.name!r} belongs to another client."
            )
        else:
            try:
                place = self._quotas.parked.take(host, claim.owner.id)
            except LimitReached as error:
                self._last_words.error(channel, messages.LIMIT_REACHED, str(error))
                return
            sock, early = channel.detach()
            if early:
                place.release()
                closing.close(sock)
                return
            tunnel.park(SocketEnd(sock, "client"), place)

    def _is_its_client(self, claim: Claim, channel: ClientChannel, request: ProxyRequest, host: str) -> bool:
        """Say whether a proxy connection comes from the client that has the name.

        An LTP/0.3 client proves that by its session, an LTP/0.2 client by its string
        and its address. A tunnel that was opened over TLS takes no proxy connection in
        the clear: that would show its session to everybody on the path.
        """
        tunnel = claim.tunnel
        if tunnel is None or tunnel.version is not channel.version or tunnel.is_encrypted != is_tls(channel.sock):
            return False
        if channel.version.has_sessions:
            return claim.is_session(request.session)
        return (claim.instance, claim.address) == (request.client, host)

    def _refuse_banned(self, channel: ClientChannel, message: FromClient | None) -> None:
        """Tell a client that asks for a tunnel about the ban.

        Any other connection is closed without an answer.
        """
        if isinstance(message, ControlRequest):
            self._last_words.error(channel, messages.KICKED, BANNED)
        else:
            channel.close()

    def _refuse(self, channel: ClientChannel, error: LocaltunnelError, host: str) -> None:
        """End a connection whose first message is missing or invalid."""
        log.debug("preamble refused", extra={"peer": host, "error": error.code, "detail": str(error)})
        if isinstance(error, HeaderError):
            self._last_words.stranger(channel)
        elif isinstance(error, VersionError):
            self._last_words.error(channel, messages.VERSION, str(error))
        elif isinstance(error, ProtocolError | DeadlineExceeded):
            self._last_words.refuse(channel, error)
        else:
            channel.close()


def _versions(config: ServerConfig) -> frozenset[Version]:
    """Return the versions that clients may speak.

    Whether an LTP/0.2 client may open a tunnel while there are tokens is the gate's
    decision.
    """
    if config.legacy == "only":
        return frozenset((LTP_0_2,))
    return frozenset((LTP_0_3,)) if config.legacy is False else frozenset((LTP_0_2, LTP_0_3))
