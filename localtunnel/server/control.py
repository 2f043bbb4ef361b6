"""Control connections: claiming a name, opening its tunnel, heartbeats, and what ends it. One greenlet each."""

import itertools
import logging
import math
import time
from typing import NoReturn

from localtunnel.errors import (
    DeadlineExceeded,
    LocaltunnelError,
    NameInvalid,
    NameUnavailable,
    NetworkError,
    OptionRefused,
    PortRefused,
    ProtocolError,
)
from localtunnel.net import closing
from localtunnel.net.address import SCHEME_PORTS
from localtunnel.net.channel import Channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.heartbeat import keep_alive
from localtunnel.protocol import limits, messages
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.protocol.messages import (
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    FromClient,
    Message,
    Notice,
    Release,
    Replaced,
)
from localtunnel.protocol.options import Options
from localtunnel.server.config import ServerConfig
from localtunnel.server.demand import Shares
from localtunnel.server.join import Joins
from localtunnel.server.ports import Ports
from localtunnel.server.rates import bucket
from localtunnel.server.registry import Claim, Registry
from localtunnel.server.terms import settle
from localtunnel.server.tunnel import Tunnel

log = logging.getLogger("localtunnel.server")

NOTICE_INTERVAL = 10.0
"""Seconds between two notices to one client about visitors that were turned away."""

RENEWAL_INTERVAL = 5.0
"""Seconds between two renewals of one pool: a lossy network misses now and then, and a renewal costs N connections."""

Conversation = Channel[FromClient]


class Released(Exception):
    """The client said goodbye."""


class Control:
    """Serves control connections. ``serve`` runs in a greenlet of the connection's own."""

    def __init__(
        self, config: ServerConfig, registry: Registry, ports: Ports, joins: Joins, ids: "itertools.count[int]"
    ) -> None:
        self._config = config
        self._registry = registry
        self._ports = ports
        self._joins = joins
        self._ids = ids
        self._shares = Shares(config.limits.tunnel_concurrency, config.limits.total_concurrency)
        self._open: dict[Tunnel, Conversation] = {}
        self._scheme = "http"
        self._port = ""

    def publish(self, scheme: str, port: int) -> None:
        """Name scheme and port of the frontend to clients, which show them; the scheme's own port goes unsaid."""
        self._scheme = scheme
        self._port = "" if port == SCHEME_PORTS[scheme] else f":{port}"

    def drain(self, seconds: float) -> None:
        """Tell every LTP/0.3 client that the server stops within ``seconds``."""
        for tunnel, channel in list(self._open.items()):
            _tell(tunnel, channel, Drain(seconds))

    def serve(self, channel: Conversation, request: ControlRequest, host: str) -> None:
        """Answer a control request and keep the tunnel for as long as its client lives."""
        try:
            asked, rules = settle(self._config, request)
        except OptionRefused as error:
            code = messages.EXCEPTION if channel.version == LTP_0_2 else messages.OPTION_REFUSED
            self._refuse(channel, code, str(error))
            return
        try:
            claim = self._claim(channel.version, request, host)
        except (NameUnavailable, NameInvalid) as error:
            log.info("name refused", extra={"tunnel": request.name, "peer": host, "error": error.code})
            self._refuse(channel, messages.UNAVAILABLE, str(error))
            return
        limits_of = self._config.limits
        tunnel = Tunnel(
            claim.name,
            claim.kind,
            channel.version,
            limits_of.waiting_visitors,
            self._shares,
            self._joins,
            rules=rules,
            requests=bucket(limits_of.tunnel_request_rate),
        )
        claim.tunnel = tunnel
        reason = "internal error"
        try:
            if claim.kind == "tcp":
                tunnel.listeners = self._ports.open(self._ports.reserve(claim, request.port), tunnel, self._ids)
            log.info("tunnel opened", extra={"tunnel": tunnel.name, "client": request.client, "peer": host})
            reason = self._converse(channel, claim, tunnel, asked)
        except PortRefused as error:
            reason = error.code
            self._refuse(channel, messages.PORT_REFUSED, str(error))
        finally:
            self._close(claim, tunnel, reason)

    def _claim(self, version: bytes, request: ControlRequest, host: str) -> Claim:
        """An LTP/0.2 client is its string and its address; an LTP/0.3 client has an instance, and may resume."""
        if version == LTP_0_2:
            return self._registry.claim(request.name, host, request.client, host=request.domain)
        claim = self._registry.claim(
            request.name,
            f"{request.client} {host}",
            request.instance or "",
            kind=request.kind or "http",
            host=request.domain,
            resume=request.resume,
        )
        self._ports.inherit(claim)
        return claim

    def _close(self, claim: Claim, tunnel: Tunnel, reason: str) -> None:
        tunnel.end(reason)
        may_return = tunnel.version != LTP_0_2 and reason not in ("released", PortRefused.code)
        if may_return and tunnel.ended not in ("replaced", "server stopped"):
            self._registry.lease(claim, self._config.timeouts.lease)
        else:
            self._registry.release(claim)
        log.info("tunnel closed", extra={"tunnel": tunnel.name, "reason": tunnel.ended})

    def _converse(self, channel: Conversation, claim: Claim, tunnel: Tunnel, asked: Options) -> str:
        """Accept the tunnel and keep it alive. Returns why it ended, with the channel closed or being closed."""
        tunnel.on_end = lambda reason: self._end(tunnel, channel, reason)
        try:
            channel.limit(limits.MAX_HEARTBEAT)
            channel.send(self._reply(claim, tunnel, asked))
            self._open[tunnel] = channel
            if tunnel.version == LTP_0_2:
                self._ping_and_wait(channel)
            self._keep_alive(channel, tunnel)
        except Released:
            channel.close()
            return "released"
        except ProtocolError as error:
            self._refuse(channel, messages.EXCEPTION, str(error))
            return f"protocol error: {error}"
        except DeadlineExceeded:
            channel.close()
            return "no heartbeat"
        except NetworkError:
            channel.close()
            return "control connection closed"
        except BaseException:
            channel.close()
            raise
        finally:
            # The channel is closed, or lingers behind its last word: there is nobody left to wake.
            tunnel.on_end = lambda reason: None
            self._open.pop(tunnel, None)

    def _reply(self, claim: Claim, tunnel: Tunnel, asked: Options) -> ControlReply:
        name = claim.host or f"{claim.name}.{self._config.domain}"
        banner = self._config.banner or f"Tunnel open on {self._config.domain}."
        if tunnel.version == LTP_0_2:
            return ControlReply(name + self._port, self._config.pool_size, banner)
        if claim.kind == "tcp":
            host = f"{self._config.domain}:{claim.port}"
            url = f"tcp://{host}"
        else:
            host = name + self._port
            url = f"{self._scheme}://{host}"
        heartbeat = self._config.timeouts.heartbeat
        return ControlReply(host, tunnel.size, banner, url, claim.session, heartbeat, asked.names or None)

    def _end(self, tunnel: Tunnel, channel: Conversation, reason: str) -> None:
        """The tunnel ends from the outside: say why where the version has words for it, and wake our greenlet."""
        if reason == "replaced":
            _tell(tunnel, channel, Replaced("Another run of this client took the tunnel over."))
        closing.wake(channel.sock)

    def _ping_and_wait(self, channel: Conversation) -> NoReturn:
        """LTP/0.2: ping for as long as pongs come back in time; ends with an exception only."""
        while True:
            channel.send(messages.PING)
            sent = time.monotonic()
            channel.receive(Deadline(self._config.timeouts.heartbeat_reply))
            idle = Deadline(max(0.001, self._config.timeouts.heartbeat - (time.monotonic() - sent)))
            try:
                channel.receive(idle)
            except DeadlineExceeded:
                continue

    def _keep_alive(self, channel: Conversation, tunnel: Tunnel) -> NoReturn:
        """LTP/0.3: any traffic counts; ends with an exception only."""
        last_notice = last_renewal = -math.inf

        def refused(code: str) -> None:
            nonlocal last_notice
            if time.monotonic() - last_notice >= NOTICE_INTERVAL:
                last_notice = time.monotonic()
                _tell(tunnel, channel, Notice(f"A visitor was turned away ({code}): no connection was free in time."))

        def renew() -> None:
            """The client cannot know that its parked connections died: let it drop them all and park fresh ones."""
            nonlocal last_renewal
            if time.monotonic() - last_renewal >= RENEWAL_INTERVAL:
                last_renewal = time.monotonic()
                _tell(tunnel, channel, Concurrency(0))
                _tell(tunnel, channel, Concurrency(tunnel.size))

        def handle(message: FromClient) -> None:
            if isinstance(message, Release):
                raise Released

        tunnel.on_size = lambda size: _tell(tunnel, channel, Concurrency(size))
        tunnel.on_suspect = renew
        tunnel.on_refusal = refused
        keep_alive(channel, self._config.timeouts.heartbeat, handle)

    def _refuse(self, channel: Conversation, code: str, text: str) -> None:
        answer_error(channel, code, text, self._config.timeouts.error_hold)


def answer_error(channel: Conversation, code: str, text: str, hold: float) -> None:
    """Send an error reply, and close ``hold`` seconds later: the client of 2013 redials at once on any error."""
    try:
        channel.send(ErrorReply(code, text))
    except LocaltunnelError:
        channel.close()
        return
    closing.linger(channel.sock, hold, fin=False)


def _tell(tunnel: Tunnel, channel: Conversation, message: Message) -> None:
    """Send a message that LTP/0.3 alone has; where that fails, the connection's own greenlet finds out."""
    if tunnel.version == LTP_0_2:
        return
    try:
        channel.send(message)
    except LocaltunnelError as error:
        log.debug("message not sent", extra={"tunnel": tunnel.name, "error": error.code})
        closing.wake(channel.sock)
