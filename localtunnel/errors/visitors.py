"""What the server itself answers a visitor over HTTP, as an error page."""

from localtunnel.errors.root import LocaltunnelError


class VisitorError(LocaltunnelError):
    """The server answers a visitor itself, with ``status``, and Retry-After where
    ``retry_after`` (seconds) is given.

    ``fields`` are names and values of further fields of the answer.
    """

    code = "visitor_error"
    status = 500
    retry_after: int | None = None
    fields: tuple[tuple[str, str], ...] = ()


class NoHost(VisitorError):
    """The request names no host, so that no tunnel can be found."""

    code = "no_host"
    status = 400


class BadRequest(VisitorError):
    """The request is not HTTP/1.x as RFC 9112 has it. One that is too large has the
    status 431."""

    code = "bad_request"
    status = 400


class RequestTimeout(VisitorError):
    """The request's head did not arrive in time."""

    code = "request_timeout"
    status = 408


class Unauthorized(VisitorError):
    """The tunnel asks for a user and a password (RFC 7617), which the request lacks or
    has wrong."""

    code = "unauthorized"
    status = 401
    fields = (("WWW-Authenticate", 'Basic realm="localtunnel", charset="UTF-8"'),)


class Forbidden(VisitorError):
    """The tunnel does not admit the visitor's address."""

    code = "forbidden"
    status = 403


class TooManyRequests(VisitorError):
    """The visitor or the tunnel has reached its rate. Each error has its own
    ``retry_after``."""

    code = "too_many_requests"
    status = 429
    retry_after = 1

    def __init__(self, message: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TunnelNotFound(VisitorError):
    """No tunnel has the name that the Host field carries."""

    code = "tunnel_not_found"
    status = 404


class ClientOffline(VisitorError):
    """The name is leased to a client that is not connected now, and may be back
    soon."""

    code = "client_offline"
    status = 503
    retry_after = 5


class PoolExhausted(VisitorError):
    """No proxy connection became free in time."""

    code = "pool_exhausted"
    status = 503
    retry_after = 1


class ServerFull(VisitorError):
    """The server has reached its operator's limit of visitors' connections."""

    code = "server_full"
    status = 503
    retry_after = 5


class UpstreamError(VisitorError):
    """The client has the visitor, but no answer of its upstream. ``word`` names it in
    LTP/0.3.

    Raised without a sentence: pages say the same for all targets, which visitors may
    not know.
    """

    status = 502
    word = ""


class UpstreamRefused(UpstreamError):
    """Nothing listens where the client's upstream should be."""

    code = "upstream_refused"
    word = "refused"


class UpstreamUnreachable(UpstreamError):
    """The client found no way to its upstream."""

    code = "upstream_unreachable"
    word = "unreachable"


class UpstreamClosed(UpstreamError):
    """The connection to the upstream ended before it had answered anything."""

    code = "upstream_closed"
    word = "closed"


class UpstreamInvalid(UpstreamError):
    """The upstream's answer is not HTTP/1.x as RFC 9112 has it, ended within its head,
    or its head is too large.

    The server finds this one, not the client. Its sentence is about the answer, not the
    target.
    """

    code = "upstream_invalid"


class UpstreamTimeout(UpstreamError):
    """The upstream did not accept the connection in time."""

    code = "upstream_timeout"
    word = "timeout"
    status = 504


def upstream_error(word: str) -> UpstreamError:
    """Return the error for a word from the wire, UpstreamUnreachable for an unknown
    one."""
    kinds = {kind.word: kind for kind in (UpstreamRefused, UpstreamClosed, UpstreamTimeout)}
    return kinds.get(word, UpstreamUnreachable)()
