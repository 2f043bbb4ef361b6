"""The clients' side: a StreamServer's callback for control connections and proxy connections.

A preamble that has arrived whole is decided in the callback; one that has not gets a greenlet that waits for the rest.
A proxy connection is then parked and owns no greenlet; a control connection keeps one for as long as it lives.
"""

import logging
import time
from typing import NoReturn

from gevent.pool import Group

from localtunnel.errors import (
    DeadlineExceeded,
    HeaderError,
    LocaltunnelError,
    NameInvalid,
    NameUnavailable,
    NetworkError,
    ProtocolError,
    VersionError,
)
from localtunnel.http.response import render
from localtunnel.net import closing
from localtunnel.net.channel import Channel, server_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.relay import SocketEnd
from localtunnel.net.sockets import Socket
from localtunnel.protocol import limits, messages
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.protocol.messages import ControlReply, ControlRequest, ErrorReply, FromClient, ProxyRequest
from localtunnel.server.config import ServerConfig
from localtunnel.server.join import Joins
from localtunnel.server.registry import Registry
from localtunnel.server.tunnel import Tunnel

log = logging.getLogger("localtunnel.server")

STOP_TIMEOUT = 1.0
"""Seconds that control connections may take to notice that the server stops; nothing in them takes longer."""

_HTTP_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"PRI ")
_WRONG_PORT = render(
    400,
    [("Content-Type", "text/plain; charset=utf-8")],
    b"This is the backend of a localtunnel server, where lt-client connects. Visitors use the frontend's port.\n",
)

Conversation = Channel[FromClient]


class Backend:
    """Takes each backend connection from its first byte to the tunnel that it belongs to."""

    def __init__(self, config: ServerConfig, registry: Registry, joins: Joins) -> None:
        self._config = config
        self._registry = registry
        self._joins = joins
        self._port = ""
        self._greenlets = Group()

    def publish_port(self, frontend_port: int) -> None:
        """Name the frontend's port to clients, which show it to their users; 80 goes without saying."""
        self._port = "" if frontend_port == 80 else f":{frontend_port}"

    def stop(self) -> None:
        """End every tunnel and every connection that was not yet part of one; blocks until they have ended."""
        for tunnel in self._registry.tunnels():
            tunnel.end("server stopped")
        self._greenlets.join(timeout=STOP_TIMEOUT)
        self._greenlets.kill()

    def accept(self, sock: Socket, host: str) -> None:
        """Take over a new connection; a listener's callback."""
        channel = server_channel(sock, "the client")
        try:
            message = channel.receive_ready()
        except LocaltunnelError as error:
            self._refuse(channel, error, host)
            return
        if message is None:
            self._greenlets.spawn(self._receive_preamble, channel, host)
        else:
            self._decide(channel, message, host)

    def _receive_preamble(self, channel: Conversation, host: str) -> None:
        try:
            message = channel.receive(Deadline(self._config.timeouts.preamble))
        except LocaltunnelError as error:
            self._refuse(channel, error, host)
            return
        self._decide(channel, message, host)

    def _decide(self, channel: Conversation, message: FromClient, host: str) -> None:
        if isinstance(message, ProxyRequest):
            self._park(channel, message, host)
        elif isinstance(message, ControlRequest):
            self._greenlets.spawn(self._serve_control, channel, message, host)

    # Proxy connections.

    def _park(self, channel: Conversation, request: ProxyRequest, host: str) -> None:
        claim = self._registry.find(request.name)
        tunnel = claim.tunnel if claim is not None else None
        if tunnel is None or tunnel.ended:
            self._answer_error(channel, messages.EXPIRED, f"There is no tunnel {request.name!r}; open it first.")
        elif (tunnel.client, tunnel.peer) != (request.client, host):
            log.warning("proxy connection refused", extra={"tunnel": tunnel.name, "peer": host})
            self._answer_error(channel, messages.UNAVAILABLE, f"The tunnel {request.name!r} is another client's.")
        else:
            sock, early = channel.detach()
            if early:
                closing.close(sock)
                return
            tunnel.park(SocketEnd(sock, "client"), LTP_0_2)

    # Control connections.

    def _serve_control(self, channel: Conversation, request: ControlRequest, host: str) -> None:
        if request.protect:
            text = "This server cannot ask visitors for a password; open the tunnel without 'protect'."
            self._answer_error(channel, messages.EXCEPTION, text)
            return
        try:
            claim = self._registry.claim(request.name, host, request.client, request.domain)
        except (NameUnavailable, NameInvalid) as error:
            log.info("name refused", extra={"tunnel": request.name, "peer": host, "error": error.code})
            self._answer_error(channel, messages.UNAVAILABLE, str(error))
            return
        tunnel = Tunnel(claim.name, request.client, host, self._config.limits.waiting_visitors, self._joins)
        tunnel.on_end = lambda reason: closing.wake(channel.sock)
        claim.tunnel = tunnel
        try:
            public = claim.host or f"{claim.name}.{self._config.domain}"
            log.info("tunnel opened", extra={"tunnel": tunnel.name, "client": request.client, "peer": host})
            reply = ControlReply(public + self._port, self._config.pool_size, self._banner())
            reason = self._converse(channel, reply)
            # The channel is closed, or lingers behind its last word: there is nobody left to wake.
            tunnel.on_end = lambda reason: None
            tunnel.end(reason)
        finally:
            self._registry.release(claim)
            tunnel.end("internal error")
            log.info("tunnel closed", extra={"tunnel": tunnel.name, "reason": tunnel.ended})

    def _converse(self, channel: Conversation, reply: ControlReply) -> str:
        """Accept the tunnel and keep it alive. Returns why it ended, with the channel closed or being closed."""
        try:
            channel.limit(limits.MAX_HEARTBEAT)
            channel.send(reply)
            self._keep_alive(channel)
        except ProtocolError as error:
            self._answer_error(channel, messages.EXCEPTION, str(error))
            return f"protocol error: {error}"
        except DeadlineExceeded:
            channel.close()
            return "no heartbeat"
        except NetworkError:
            channel.close()
            return "control connection closed"

    def _keep_alive(self, channel: Conversation) -> NoReturn:
        """Ping for as long as pongs come back in time; ends with an exception only."""
        while True:
            channel.send(messages.PING)
            sent = time.monotonic()
            channel.receive(Deadline(self._config.timeouts.heartbeat_reply))
            idle = Deadline(max(0.001, self._config.timeouts.heartbeat - (time.monotonic() - sent)))
            try:
                channel.receive(idle)
            except DeadlineExceeded:
                continue

    def _banner(self) -> str:
        return self._config.banner or f"Tunnel open on {self._config.domain}."

    # Errors.

    def _refuse(self, channel: Conversation, error: LocaltunnelError, host: str) -> None:
        """End a connection whose preamble did not come, or was none."""
        log.debug("preamble refused", extra={"peer": host, "error": error.code, "detail": str(error)})
        if isinstance(error, HeaderError):
            self._answer_stranger(channel)
        elif isinstance(error, VersionError):
            self._answer_error(channel, messages.VERSION, str(error))
        elif isinstance(error, ProtocolError | DeadlineExceeded):
            self._answer_error(channel, messages.EXCEPTION, str(error))
        else:
            channel.close()

    def _answer_error(self, channel: Conversation, code: str, text: str) -> None:
        """Send an error reply, and close once the client has had a moment to stop hurrying."""
        try:
            channel.send(ErrorReply(code, text))
        except LocaltunnelError:
            channel.close()
            return
        closing.linger(channel.sock, self._config.timeouts.error_hold, fin=False)

    def _answer_stranger(self, channel: Conversation) -> None:
        """Tell somebody who speaks HTTP here where to go, and close."""
        sock, start = channel.detach()
        if start.startswith(_HTTP_METHODS):
            try:
                sock.send(_WRONG_PORT)
            except OSError:
                closing.close(sock)
                return
            closing.linger(sock)
        else:
            closing.close(sock)
