"""What a server answers a client that it refuses, or whose tunnel it ends."""

from localtunnel.errors.root import LocaltunnelError


class RefusedError(LocaltunnelError):
    """The server answered with an error message; ``code`` is the one on the wire."""

    code = "refused"


class NameUnavailable(RefusedError):
    """Another client has the name."""

    code = "unavailable"


class NameInvalid(RefusedError):
    """No tunnel may have the name."""

    code = "invalid_name"


class PortRefused(RefusedError):
    """The server offers no TCP tunnels, or not the port that was asked for."""

    code = "port_refused"


class OptionRefused(RefusedError):
    """An option of a tunnel has an invalid value, or the server does not support it."""

    code = "option_refused"


class ClientReplaced(RefusedError):
    """Another run of this client took the session over. This run must not take it
    back."""

    code = "replaced"


class ClientKicked(RefusedError):
    """The operator ended the tunnel. The client must not reconnect by itself."""

    code = "kicked"


class TunnelExpired(RefusedError):
    """A proxy request named a tunnel that is not there."""

    code = "expired"


class AuthError(RefusedError):
    """The server requires a token, or refuses the client's."""

    code = "auth"


class AuthRequired(AuthError):
    """The server requires a token, and none was given."""

    code = "auth_required"


class AuthFailed(AuthError):
    """The token is unknown, wrong or revoked, or a peer could not prove that it knows
    it."""

    code = "auth_failed"


class TokenExpired(AuthError):
    """The token has expired. Only a client that has proved to hold it is told so."""

    code = "token_expired"


class AuthThrottled(AuthError):
    """Too many logins from this address have failed. The token may be good: try
    later."""

    code = "auth_throttled"


class TlsRequired(AuthError):
    """A token was to be used without encryption, where a proof is tied to no
    connection."""

    code = "tls_required"


class NotAllowed(RefusedError):
    """The token does not cover the name or the kind of tunnel that was asked for.

    Where it was the name, ``names`` are those that it covers, as names and globs.
    """

    code = "not_allowed"

    def __init__(self, message: str = "", names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


class RequestInvalid(RefusedError):
    """The server could not read the client's request. Another try cannot succeed."""

    code = "invalid_request"


class LimitReached(RefusedError):
    """A token, an address or the server has reached its limit of tunnels or
    connections."""

    code = "limit_reached"


class RemoteFailure(RefusedError):
    """The server failed for a reason of its own, and said so."""

    code = "exception"
