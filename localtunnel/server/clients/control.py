"""Control connections: what a request for a tunnel is answered, heartbeats, and what ends it. One greenlet each."""

import logging
import math
import time
from collections.abc import Sequence
from typing import NoReturn

from localtunnel.errors import (
    DeadlineExceeded,
    Flooded,
    LocaltunnelError,
    NameInvalid,
    NetworkError,
    OptionRefused,
    ProtocolError,
    RefusedError,
    StorageError,
)
from localtunnel.net import closing
from localtunnel.net.address import SCHEME_PORTS
from localtunnel.net.channel import Channel
from localtunnel.net.closing import Lingering
from localtunnel.net.deadline import Deadline
from localtunnel.net.heartbeat import keep_alive
from localtunnel.protocol import limits, messages
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
from localtunnel.protocol.wire.framing import LTP_0_2
from localtunnel.server.clients.opening import Opened, Openings
from localtunnel.server.clients.strangers import Stranger
from localtunnel.server.config import ServerConfig
from localtunnel.server.tunnels.demand import Announcing
from localtunnel.server.tunnels.tunnel import Tunnel

log = logging.getLogger("localtunnel.server")

NOTICE_INTERVAL = 10.0
"""Seconds between two notices to one client about requests that were refused; each tells of all since the last."""

Conversation = Channel[FromClient]


class Released(Exception):
    """The client said goodbye."""


class Control:
    """Serves control connections. ``serve`` runs in a greenlet of the connection's own."""

    def __init__(self, config: ServerConfig, openings: Openings, lingering: Lingering) -> None:
        self._config = config
        self._openings = openings
        self._lingering = lingering
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

    def serve(self, channel: Conversation, request: ControlRequest, host: str, stranger: Stranger) -> None:
        """Answer a control request and keep the tunnel for as long as its client lives.

        ``stranger`` is the connection's place among those that have not proved who they are.
        """
        try:
            opened = self._openings.open(channel, request, host, stranger)
        except (RefusedError, StorageError, ProtocolError, DeadlineExceeded) as error:
            self.answer_error(channel, code_of(error, channel.version), str(error), getattr(error, "names", ()))
            return
        except NetworkError:
            channel.close()
            return
        except BaseException:
            channel.close()
            raise
        reason = "internal error"
        try:
            reason = self._converse(channel, opened)
        finally:
            self._openings.close(opened, reason)

    def answer_error(
        self, channel: Conversation, code: str, text: str, names: Sequence[str] = (), *, read: bool = True
    ) -> None:
        """Send an error reply, and close a while later: the client of 2013 redials at once on any error.

        What still comes in the meantime is dropped, or not even read.
        """
        try:
            channel.send(ErrorReply(code, text, tuple(names[: limits.MAX_PATTERNS]) or None))
        except LocaltunnelError:
            channel.close()
        else:
            self._lingering.hold(channel.sock, self._config.timeouts.error_hold, read=read)

    def _converse(self, channel: Conversation, opened: Opened) -> str:
        """Accept the tunnel and keep it alive. Returns why it ended, with the channel closed or being closed."""
        tunnel = opened.tunnel
        tunnel.on_end = lambda reason: self._end(tunnel, channel, reason)
        try:
            channel.limit(limits.MAX_HEARTBEAT)
            channel.send(self._reply(opened))
            self._open[tunnel] = channel
            if tunnel.version == LTP_0_2:
                self._ping_and_wait(channel)
            self._keep_alive(channel, tunnel)
        except Released:
            channel.close()
            return "released"
        except Flooded as error:
            self.answer_error(channel, messages.FLOODED, str(error), read=False)
            return error.code
        except ProtocolError as error:
            self.answer_error(channel, messages.EXCEPTION, str(error))
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
            tunnel.tell_nobody()
            self._open.pop(tunnel, None)

    def _reply(self, opened: Opened) -> ControlReply:
        tunnel, claim = opened.tunnel, opened.claim
        below = f"{claim.name}.{self._config.domain}"
        name = claim.host or below
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
        names = opened.asked.names or None
        also = (f"{self._scheme}://{below}{self._port}",) if name != below else None
        return ControlReply(
            host,
            tunnel.size,
            banner,
            url,
            claim.session,
            heartbeat,
            opened.grant.answer,
            names,
            also,
            True if claim.kind == "http" and self._config.edge == "http" else None,
        )

    def _end(self, tunnel: Tunnel, channel: Conversation, reason: str) -> None:
        """The tunnel ends from the outside: say why where the version has words for it, and wake our greenlet."""
        if reason == "replaced":
            _tell(tunnel, channel, Replaced("Another run of this client has taken over the tunnel."))
        elif tunnel.verdict is not None:
            _tell(tunnel, channel, ErrorReply(tunnel.verdict.code, str(tunnel.verdict)))
        closing.wake(channel.sock)

    def _ping_and_wait(self, channel: Conversation) -> NoReturn:
        """LTP/0.2: ping for as long as pongs come back in time; ends with an exception only.

        The client has one message for each ping, which the state table holds it to, and so no way to flood.
        """
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
        last_renewal = last_notice = -math.inf

        def refused() -> None:
            nonlocal last_notice
            if time.monotonic() - last_notice >= NOTICE_INTERVAL:
                last_notice = time.monotonic()
                _tell(tunnel, channel, Notice(tunnel.refusals.take()))

        def renew() -> None:
            """The client cannot know that its parked connections died: let it drop them all and park fresh ones.

            Once in a heartbeat's interval: a lossy network misses now and then, and a renewal costs N connections. A
            middle box that forgets sooner than that forgets the control connection as well.
            """
            nonlocal last_renewal
            if time.monotonic() - last_renewal >= self._config.timeouts.heartbeat:
                last_renewal = time.monotonic()
                tunnel.outdate()
                announcing.renew()

        def handle(message: FromClient) -> None:
            if isinstance(message, Release):
                raise Released

        announcing = Announcing(tunnel.size, lambda size: _tell(tunnel, channel, Concurrency(size)))
        tunnel.on_size = announcing.changed
        tunnel.on_suspect = renew
        tunnel.on_refusal = refused
        try:
            keep_alive(channel, self._config.timeouts.heartbeat, handle, tunnel.measured)
        finally:
            announcing.close()
            tunnel.on_size = lambda size: None


def code_of(error: LocaltunnelError, version: bytes) -> str:
    """Return the code that refuses a connection before its tunnel is open.

    Errors have the codes of the wire, with exceptions. ``exception`` makes a client try again, so a request that
    cannot get better by that has another code where the version knows one.
    """
    if isinstance(error, NameInvalid):
        return messages.UNAVAILABLE
    if isinstance(error, ProtocolError) and version != LTP_0_2:
        return messages.INVALID_REQUEST
    if isinstance(error, RefusedError) and not (isinstance(error, OptionRefused) and version == LTP_0_2):
        return error.code
    return messages.EXCEPTION


def _tell(tunnel: Tunnel, channel: Conversation, message: Message) -> None:
    """Send a message if the tunnel's version has it; where that fails, the connection's own greenlet finds out."""
    if tunnel.version == LTP_0_2 and not isinstance(message, ErrorReply):
        return
    try:
        channel.send(message)
    except LocaltunnelError as error:
        log.debug("message not sent", extra={"tunnel": tunnel.name, "error": error.code})
        closing.wake(channel.sock)
