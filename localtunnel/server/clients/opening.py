"""From a control request to an open tunnel and back: login, options, name, port.

Each reason that keeps a client from its tunnel is raised here as an error, and answered
by ``control``. A token may allow less later than it did when a tunnel was opened:
``review`` ends the tunnels that it no longer covers.
"""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from localtunnel.errors import (
    ClientKicked,
    ConnectionClosed,
    LimitReached,
    NameInvalid,
    NameUnavailable,
    PortRefused,
    RefusedError,
    StorageError,
)
from localtunnel.http.options.rules import Rules
from localtunnel.net.listen import Listener
from localtunnel.net.tls.context import channel_binding, is_tls
from localtunnel.protocol import limits
from localtunnel.protocol.messages import ControlRequest, ProxyRequest
from localtunnel.protocol.options import Options
from localtunnel.server.access.auth import Gate, Grant
from localtunnel.server.clients.session import ControlSession
from localtunnel.server.clients.strangers import Stranger
from localtunnel.server.clients.terms import settle
from localtunnel.server.config import ServerConfig
from localtunnel.server.limits.quotas import Quotas
from localtunnel.server.limits.rates import bucket
from localtunnel.server.names.claims import Claim, Owner, Wish, owner_of_address, owner_of_key, owner_of_token
from localtunnel.server.names.registry import Registry
from localtunnel.server.tunnels.demand import Shares
from localtunnel.server.tunnels.join import Joins
from localtunnel.server.tunnels.returns import Readmission
from localtunnel.server.tunnels.tunnel import FAILED, RELEASED, REPLACED, STOPPED, Terms, Tunnel

log = logging.getLogger("localtunnel.server")


class Opened(NamedTuple):
    """An open tunnel, the claim and grant behind it, and its client's options."""

    tunnel: Tunnel
    claim: Claim
    grant: Grant
    request: ControlRequest
    asked: Options


class Openings:
    """Opens tunnels, and knows the grant behind each.

    The caller of ``open`` has to call ``close``. ``is_banned(host)`` says whether
    clients may connect from there. ``listen_for(tunnel, port)`` starts the listeners of
    a TCP tunnel, or raises PortRefused.
    """

    def __init__(
        self,
        config: ServerConfig,
        gate: Gate,
        registry: Registry,
        joins: Joins,
        quotas: Quotas,
        is_banned: Callable[[str], bool],
        listen_for: Callable[[Tunnel, int], list[Listener]],
    ) -> None:
        self._config = config
        self._gate = gate
        self._registry = registry
        self._joins = joins
        self._quotas = quotas
        self._is_banned = is_banned
        self._listen_for = listen_for
        self._shares = Shares(
            config.limits.tunnel_concurrency, config.limits.total_concurrency, config.timeouts.idle_tunnel
        )
        self._opened: dict[Tunnel, Opened] = {}
        """The oldest first."""

    def open(self, session: ControlSession, stranger: Stranger) -> Opened:
        """Open the tunnel that the client asks for, owned by ``session``.

        Blocks the greenlet while the client logs in and its name is written down.
        Releases ``stranger``, the connection's place among those whose identity is not
        proved. Raises a RefusedError, a StorageError, or the channel's error; the
        caller answers and closes.
        """
        request = session.request
        try:
            grant = self._admit(session)
        finally:
            stranger.release()
        asked, rules = settle(self._config, request)
        claim = self._claim(session, grant)
        tunnel = Tunnel(self._terms(session, claim, grant, rules), session, self._shares, self._joins)
        claim.tunnel = tunnel
        claim.cors = asked.cors
        opened = Opened(tunnel, claim, grant, request, asked)
        try:
            self._listen(opened)
        except (PortRefused, StorageError) as error:
            self.close(opened, error.code)
            raise
        except BaseException:
            self.close(opened, FAILED)
            raise
        log.info("tunnel opened", extra={"tunnel": tunnel.name, "client": request.client, "peer": session.host})
        self._opened[tunnel] = opened
        claim.succession.opened()
        return opened

    def close(self, opened: Opened, reason: str) -> None:
        """End the tunnel if it is still open.

        Its name is freed, or kept for a client that may come back.
        """
        tunnel, claim = opened.tunnel, opened.claim
        self._opened.pop(tunnel, None)
        tunnel.end(reason)
        may_return = tunnel.version.leases and reason not in (RELEASED, PortRefused.code, StorageError.code)
        if may_return and tunnel.verdict is None and tunnel.ended not in (REPLACED, STOPPED):
            longest = self._config.timeouts.lease
            self._registry.lease(claim, longest if claim.owner.kept else min(longest, limits.LEASE))
        else:
            self._registry.release(claim)
        log.info("tunnel closed", extra={"tunnel": tunnel.name, "reason": tunnel.ended})

    def ease_pools(self) -> None:
        """Shrink the pools that have grown, because descriptors are short."""
        self._shares.ease()

    def review(self) -> None:
        """Revoke the tunnels that their token no longer covers.

        To be called every few seconds.
        """
        held: Counter[str] = Counter()
        for tunnel, (_, _, grant, request, _) in list(self._opened.items()):
            try:
                self._gate.check(grant, request, tunnel.version)
                self._gate.check_count(grant, held)
            except RefusedError as error:
                log.warning("tunnel revoked", extra={"tunnel": tunnel.name, "error": error.code})
                tunnel.revoke(error)
            else:
                tunnel.meter = self._gate.meter(grant)

    def _admit(self, session: ControlSession) -> Grant:
        """Return the client's grant, if it covers this tunnel."""
        request, host = session.request, session.host
        try:
            grant = self._gate.admit(session.channel, request, host)
            self._gate.check(grant, request, session.version)
        except RefusedError as error:
            log.info("client refused", extra={"tunnel": request.name, "peer": host, "error": error.code})
            raise
        return grant

    def _claim(self, session: ControlSession, grant: Grant) -> Claim:
        """Claim the name.

        The owner of an LTP/0.2 tunnel is the client's address. An LTP/0.3 client has an
        instance, may have proved its owner, and may resume a session.
        """
        request, host = session.request, session.host
        encrypted = is_tls(session.channel.sock)
        wish = Wish(request.name, "http", request.domain, address=host, client=request.client, encrypted=encrypted)
        try:
            if not session.version.has_sessions:
                return self._registry.claim(Owner(host), request.client, wish)
            wish = wish._replace(kind=request.kind or "http", resume=request.resume, takeover=request.takeover is True)
            return self._registry.claim(_owner(session, grant), request.instance or "", wish)
        except (NameUnavailable, NameInvalid, LimitReached, StorageError) as error:
            log.info("name refused", extra={"tunnel": request.name, "peer": host, "error": error.code})
            raise

    def _terms(self, session: ControlSession, claim: Claim, grant: Grant, rules: Rules | None) -> Terms:
        gate, limits_of = self._gate, self._config.limits
        joined, parked = self._quotas.joined, self._quotas.parked
        host, owner = session.host, claim.owner.id
        readmission = None
        if session.request.recycle is True and is_tls(session.channel.sock):
            readmission = Readmission(lambda host: parked.take(host, owner), partial(self._readmit, claim.name))
        return Terms(
            claim.name,
            session.version,
            limits_of.waiting_visitors,
            claim.succession,
            is_encrypted=claim.encrypted,
            rules=rules,
            requests=bucket(limits_of.tunnel_request_rate),
            meter=gate.meter(grant),
            readmission=readmission,
            # The closure must not hold the claim: it holds the tunnel, and that would
            # be a cycle.
            admit=lambda: joined.take(host, owner, most=gate.most_connections(grant)),
        )

    def _readmit(self, name: str, request: ProxyRequest, host: str) -> None:
        """Check the request of a connection that comes back to the tunnel ``name``.

        It asks as a new one does. A connection changes visitors, but never its tunnel.
        """
        if self._is_banned(host):
            raise ClientKicked("The address is banned.")
        claim = self._registry.find(request.name)
        if claim is None or claim.name != name or not claim.is_session(request.session):
            raise NameUnavailable(f"The tunnel {request.name!r} belongs to another client.")

    def _listen(self, opened: Opened) -> None:
        """Open the public port of a TCP tunnel, and write it down.

        Raises PortRefused and StorageError. Writing waits for the disk. If the tunnel
        is ended in that time, its verdict is raised, or else ConnectionClosed.
        """
        claim, tunnel = opened.claim, opened.tunnel
        if claim.kind == "tcp":
            takeover = opened.request.takeover is True
            port = self._registry.ports.reserve(claim, opened.request.port, takeover=takeover)
            tunnel.listeners += self._listen_for(tunnel, port)
            self._registry.record(claim)
            if tunnel.ended is not None:
                raise tunnel.verdict or ConnectionClosed(f"The tunnel ended while it was being opened: {tunnel.ended}.")


def _owner(session: ControlSession, grant: Grant) -> Owner:
    """Return the owner for a name.

    A key that came over a connection in the clear proves nothing: others may have read
    it.
    """
    request = session.request
    if grant.token is not None:
        return owner_of_token(grant.token.id, grant.token.max_tunnels)
    if request.owner is not None and channel_binding(session.channel.sock) is not None:
        return owner_of_key(request.owner)
    return owner_of_address(request.client, session.host)
