"""Opening a tunnel on a new control connection: the request, the login, and the
server's reply."""

import logging
import secrets
from typing import Any

import msgspec

from localtunnel.errors import (
    AuthFailed,
    AuthRequired,
    AuthThrottled,
    ClientKicked,
    ConnectionClosed,
    Flooded,
    LimitReached,
    LocaltunnelError,
    MessageError,
    NameUnavailable,
    NotAllowed,
    OptionRefused,
    PortRefused,
    RefusedError,
    RemoteFailure,
    RequestInvalid,
    TlsRequired,
    TokenExpired,
    TunnelExpired,
    VersionError,
)
from localtunnel.net.channel import Channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.tls.context import channel_binding, is_tls
from localtunnel.protocol import messages, options
from localtunnel.protocol.login.scram import NONCE_SIZE, ClientLogin
from localtunnel.protocol.login.token import Token
from localtunnel.protocol.messages import (
    Challenge,
    ControlReply,
    ControlRequest,
    ErrorReply,
    FromServer,
    Proof,
)
from localtunnel.protocol.version import Version

log = logging.getLogger("localtunnel.client")


class Opening:
    """Asks for one tunnel, in ``version``. Each answer of the server may take
    ``timeout`` seconds."""

    def __init__(self, version: Version, request: ControlRequest, token: Token | None, timeout: float) -> None:
        self._version = version
        self._request = request
        self._token = token
        self._timeout = timeout
        self.answered = False
        """Whether the server has answered at all, if only with a TLS handshake."""

    def run(self, channel: Channel[FromServer]) -> ControlReply:
        """Ask for the tunnel, log in where there is a token, and return the reply;
        blocks the greenlet.

        Raises a NetworkError, a ProtocolError or a RefusedError; the caller closes the
        channel.
        """
        self.answered = is_tls(channel.sock)
        login = self._login(channel)
        request = self._request if login is None else msgspec.structs.replace(self._request, auth=login.first)
        if request.owner is not None and channel_binding(channel.sock) is None:
            # An eavesdropper would own the names of this key.
            request = msgspec.structs.replace(request, owner=None)
        if is_tls(channel.sock):
            request = msgspec.structs.replace(request, recycle=True)
        channel.send(request, header=self._version.header)
        message = self._answer(channel)
        if isinstance(message, Challenge) and login is not None:
            channel.send(Proof(login.final(message.text)))
            message = self._answer(channel)
        if not isinstance(message, ControlReply):
            raise MessageError("The server answered the control request with a message of another kind.")
        if login is not None:
            login.verify(message.auth)
        if self._version.has_sessions and message.session is None:
            raise MessageError("The server's reply lacks the field 'session', which LTP/0.3 requires.")
        self._check_options(channel, message)
        return message

    def _login(self, channel: Channel[FromServer]) -> ClientLogin | None:
        """Return a login for this connection, None without a token."""
        if self._token is None:
            return None
        binding = channel_binding(channel.sock)
        if binding is None:
            raise TlsRequired("A token can be used over an encrypted connection only, and this one is not encrypted.")
        return ClientLogin(self._token.id, self._token.secret, secrets.token_urlsafe(NONCE_SIZE), binding)

    def _answer(self, channel: Channel[FromServer]) -> FromServer:
        """Return the server's answer to a request or a proof. Raises an error that it
        answers."""
        try:
            message = channel.receive(Deadline(self._timeout))
        except ConnectionClosed:
            self.answered = self.answered or channel.is_mid_message
            raise
        self.answered = True
        if isinstance(message, ErrorReply):
            raise refusal(message)
        return message

    def _check_options(self, channel: Channel[FromServer], reply: ControlReply) -> None:
        """Refuse a tunnel whose server has ignored options, rather than open it
        unprotected."""
        missing = options.missing(options.of_request(self._request), reply)
        if missing:
            say_goodbye(channel)
            raise OptionRefused(
                f"The server does not support the option {' and '.join(missing)}. Leave it out, or ask the server's"
                " operator for a newer version."
            )


def say_goodbye(channel: Channel[FromServer]) -> None:
    """Tell the server that the name is free."""
    try:
        channel.send(messages.RELEASE)
    except LocaltunnelError as error:
        log.debug("goodbye not sent", extra={"error": error.code})


_REFUSALS: dict[str, Any] = {
    kind.code: kind
    for kind in (
        NameUnavailable,
        TunnelExpired,
        PortRefused,
        OptionRefused,
        AuthRequired,
        AuthFailed,
        TokenExpired,
        AuthThrottled,
        TlsRequired,
        LimitReached,
        ClientKicked,
        RequestInvalid,
    )
}
"""The errors of a server, by their codes on the wire."""


def refusal(reply: ErrorReply) -> RefusedError | VersionError | Flooded:
    """Return the error that an error message of the server means."""
    text = reply.message or f"The server answered {reply.error!r}."
    if reply.error == messages.VERSION:
        return VersionError(text)
    if reply.error == messages.FLOODED:
        return Flooded(text)
    if reply.error == messages.NOT_ALLOWED:
        return NotAllowed(text, reply.names or ())
    error: RefusedError = _REFUSALS.get(reply.error, RemoteFailure)(text)
    return error
