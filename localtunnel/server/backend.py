"""The clients' side: a StreamServer's callback for control connections and proxy connections.

A preamble that has arrived whole is decided in the callback; one that has not gets a greenlet that waits for the rest.
A proxy connection is then parked and owns no greenlet; a control connection is a greenlet's (``control``).
"""

import logging

from gevent.pool import Group
from greenlet import GreenletExit

from localtunnel.errors import DeadlineExceeded, HeaderError, LocaltunnelError, ProtocolError, VersionError
from localtunnel.http.render import render
from localtunnel.net import closing
from localtunnel.net.channel import Channel, server_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.ends import SocketEnd
from localtunnel.net.sockets import Socket
from localtunnel.protocol import messages
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.protocol.messages import ControlRequest, FromClient, ProxyRequest
from localtunnel.server.config import ServerConfig
from localtunnel.server.control import Control, answer_error
from localtunnel.server.registry import Claim, Registry

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

    def __init__(self, config: ServerConfig, registry: Registry, control: Control) -> None:
        self._config = config
        self._registry = registry
        self._control = control
        self._versions = frozenset(f"LTP/{version}".encode() for version in config.protocols)
        self._preambles = Group()
        self._sessions = Group()

    def stop(self) -> None:
        """End every tunnel and every connection that was not yet part of one; blocks until they have ended."""
        self._registry.close()
        self._preambles.kill()
        self._sessions.join(timeout=STOP_TIMEOUT)
        self._sessions.kill()

    def accept(self, sock: Socket, host: str, port: int) -> None:
        """Take over a new connection; a listener's callback."""
        channel = server_channel(sock, "the client")
        try:
            message = channel.receive_ready()
        except LocaltunnelError as error:
            self._refuse(channel, error, host)
            return
        if message is None:
            self._preambles.spawn(self._receive_preamble, channel, host)
        else:
            self._decide(channel, message, host)

    def _receive_preamble(self, channel: Conversation, host: str) -> None:
        try:
            message = channel.receive(Deadline(self._config.timeouts.preamble))
        except LocaltunnelError as error:
            self._refuse(channel, error, host)
            return
        except GreenletExit:
            channel.close()
            return
        self._decide(channel, message, host)

    def _decide(self, channel: Conversation, message: FromClient, host: str) -> None:
        if channel.version not in self._versions:
            spoken = ", ".join(sorted(version.decode() for version in self._versions))
            self._refuse(channel, VersionError(f"This server speaks {spoken} only."), host)
        elif isinstance(message, ProxyRequest):
            self._park(channel, message, host)
        elif isinstance(message, ControlRequest):
            self._sessions.spawn(self._control.serve, channel, message, host)

    def _park(self, channel: Conversation, request: ProxyRequest, host: str) -> None:
        claim = self._registry.find(request.name)
        tunnel = claim.tunnel if claim is not None else None
        if claim is None or tunnel is None or tunnel.ended:
            self._answer_error(channel, messages.EXPIRED, f"There is no tunnel {request.name!r}; open it first.")
        elif not self._is_its_client(claim, channel.version, request, host):
            log.warning("proxy connection refused", extra={"tunnel": tunnel.name, "peer": host})
            self._answer_error(channel, messages.UNAVAILABLE, f"The tunnel {request.name!r} is another client's.")
        else:
            sock, early = channel.detach()
            if early:
                closing.close(sock)
                return
            tunnel.park(SocketEnd(sock, "client"))

    def _is_its_client(self, claim: Claim, version: bytes, request: ProxyRequest, host: str) -> bool:
        """LTP/0.3 proves by the session that it belongs to the tunnel; LTP/0.2 by its client string and address."""
        if claim.tunnel is None or claim.tunnel.version != version:
            return False
        if version == LTP_0_2:
            return (claim.instance, claim.owner) == (request.client, host)
        return claim.is_session(request.session)

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
        answer_error(channel, code, text, self._config.timeouts.error_hold)

    def _answer_stranger(self, channel: Conversation) -> None:
        """Tell somebody who speaks HTTP here where to go, and close."""
        sock, start = channel.detach()
        if not start.startswith(_HTTP_METHODS):
            closing.close(sock)
            return
        try:
            sock.send(_WRONG_PORT)
        except OSError:
            closing.close(sock)
        else:
            closing.linger(sock)
