"""Every error that localtunnel raises on purpose, each with a stable ``code``.

LocaltunnelError
├── UsageError                  usage                 the command line was not understood
├── ConfigError                 config                a key, a type or a value in a file or the environment
│   ├── AddressError            address               an address that cannot be parsed
│   └── TokenInvalid            invalid_token         a text that cannot be a token
├── ProtocolError               protocol_error        the peer did not speak LTP as PROTOCOL.md has it
│   ├── HeaderError             not_ltp               the first bytes are not an LTP header
│   ├── VersionError            version_mismatch      LTP, but a version that is not spoken here
│   ├── FrameError              bad_frame             a length or an encoding that no frame may have
│   ├── MessageError            bad_message           a well-framed object that is not a known message
│   └── Flooded                 flooded               more messages at a time than either side may send
├── RefusedError                refused               the server answered with an error message
│   ├── NameUnavailable         unavailable           another client has the name
│   ├── NameInvalid             invalid_name          not a name that a tunnel may have
│   ├── PortRefused             port_refused          no such public port for a TCP tunnel
│   ├── OptionRefused           option_refused        an option of the tunnel is wrong, or cannot be kept
│   ├── ClientReplaced          replaced              another run of the client took the session over
│   ├── ClientKicked            kicked                the server's owner ended the tunnel
│   ├── TunnelExpired           expired               a proxy request for a tunnel that is not there
│   ├── AuthError               (the subclass's)      the server wants a token, or does not take this one
│   │   ├── AuthRequired        auth_required         the server requires a token
│   │   ├── AuthFailed          auth_failed           the token is unknown, wrong or revoked
│   │   ├── TokenExpired        token_expired         the token's time is over
│   │   ├── AuthThrottled       auth_throttled        too many failures came from this address; later again
│   │   └── TlsRequired         tls_required          a token is never used without encryption
│   ├── NotAllowed              not_allowed           the token does not cover this name or kind of tunnel
│   ├── RequestInvalid          invalid_request       the server cannot read what the client asks for
│   ├── LimitReached            limit_reached         a token, an address or the server has as many as it may
│   └── RemoteFailure           exception             the server failed, and said so
├── TrustError                  (the subclass's)      the server is not, or may not be, the one that the user named
│   ├── KeyChanged              key_changed           it shows another key than the one that it is known by
│   ├── CertificateUntrusted    certificate           its certificate is not valid for this name at this time
│   │   └── CertificateUnknown  certificate_unknown   no authority that this machine knows has signed it
│   └── DowngradeRefused        downgrade             a server that is known to encrypt was to be used without
├── StorageError                storage               the server cannot record on its disk what it would promise
├── OutputError                 output                what was asked for cannot be written to stdout
├── NetworkError                network
│   ├── Unreachable             unreachable           nothing answers at the address, or the name does not resolve
│   │   └── ConnectionRefused   connection_refused    the machine answers, but nothing listens on the port
│   ├── ConnectionClosed        closed                the peer closed or reset the connection
│   ├── TlsError                tls                   the other side's TLS is not one that is spoken here
│   ├── DeadlineExceeded        deadline              the total time allowed has passed
│   └── ListenError             cannot_listen         the address is taken, or not ours
└── VisitorError                (the subclass's)      what the frontend answers a visitor itself
    ├── NoHost                  no_host               400
    ├── BadRequest              bad_request           400
    ├── RequestTimeout          request_timeout       408
    ├── Unauthorized            unauthorized          401
    ├── Forbidden               forbidden             403
    ├── TooManyRequests         too_many_requests     429
    ├── TunnelNotFound          tunnel_not_found      404
    ├── ClientOffline           client_offline        503
    ├── PoolExhausted           pool_exhausted        503
    ├── ServerFull              server_full           503
    └── UpstreamError
        ├── UpstreamRefused     upstream_refused      502
        ├── UpstreamUnreachable upstream_unreachable  502
        ├── UpstreamClosed      upstream_closed       502
        ├── UpstreamInvalid     upstream_invalid      502
        └── UpstreamTimeout     upstream_timeout      504

The message of an error is a whole sentence fit for the person who reads it: what went wrong, then what to do about it.
Codes are part of the public interface: in logs, in ``X-Localtunnel-Error``, in ``--json`` output.
"""


class LocaltunnelError(Exception):
    """The root of the tree. ``advice`` is what to do about it, for somebody for whom nothing has worked so far."""

    code = "internal_error"

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    @property
    def fact(self) -> str:
        """What went wrong, without the advice."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.fact} {self.advice}" if self.advice else self.fact


class UsageError(LocaltunnelError):
    """The command line was not understood."""

    code = "usage"


class ConfigError(LocaltunnelError):
    """A setting is unknown, of the wrong type or out of range; the message names file, table and key."""

    code = "config"


class AddressError(ConfigError):
    """A text that should be an address is none."""

    code = "address"


class TokenInvalid(ConfigError):
    """A text that should be a token was mistyped, cut short, or is something else; no server has seen it."""

    code = "invalid_token"


class ProtocolError(LocaltunnelError):
    """The peer did not speak LTP as PROTOCOL.md has it. The connection is finished."""

    code = "protocol_error"


class HeaderError(ProtocolError):
    """The first bytes are not an LTP header."""

    code = "not_ltp"


class VersionError(ProtocolError):
    """The peer speaks LTP in a version that is not spoken here."""

    code = "version_mismatch"


class FrameError(ProtocolError):
    """A frame is too long, or its payload is not a UTF-8 JSON object within the limits."""

    code = "bad_frame"


class MessageError(ProtocolError):
    """A well-formed object that is not a message known here, or not one that may come now."""

    code = "bad_message"


class Flooded(ProtocolError):
    """One side sent more messages on a control connection than it may; the other has ended the connection."""

    code = "flooded"


class RefusedError(LocaltunnelError):
    """The server answered with an error message; ``code`` is the one on the wire."""

    code = "refused"


class NameUnavailable(RefusedError):
    """Another client has the name."""

    code = "unavailable"


class NameInvalid(RefusedError):
    """The name is not one that a tunnel may have."""

    code = "invalid_name"


class PortRefused(RefusedError):
    """The server offers no TCP tunnels, or not the port that was asked for."""

    code = "port_refused"


class OptionRefused(RefusedError):
    """An option of a tunnel has a value that it cannot have, or the server would not keep it."""

    code = "option_refused"


class ClientReplaced(RefusedError):
    """Another run of this client took the session over; this one must not fight for it."""

    code = "replaced"


class ClientKicked(RefusedError):
    """The server's owner ended the tunnel; the client must not come back by itself."""

    code = "kicked"


class TunnelExpired(RefusedError):
    """A proxy request named a tunnel that is not there."""

    code = "expired"


class AuthError(RefusedError):
    """The server wants a token, or does not take the one that it was shown."""

    code = "auth"


class AuthRequired(AuthError):
    """The server requires a token, and none was given."""

    code = "auth_required"


class AuthFailed(AuthError):
    """The token is unknown, wrong or revoked, or one of the two sides could not prove that it knows it."""

    code = "auth_failed"


class TokenExpired(AuthError):
    """The token's time is over. Only who has proved to hold the token is told so."""

    code = "token_expired"


class AuthThrottled(AuthError):
    """Too many failures came from this address of late; the same token may well do later."""

    code = "auth_throttled"


class TlsRequired(AuthError):
    """A token was to be used on a connection without encryption, where nothing ties the proof to the connection."""

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
    """The server could not read what the client said before its tunnel was open; the same again is of no use."""

    code = "invalid_request"


class LimitReached(RefusedError):
    """A token, an address or the whole server has as many tunnels or connections as it may."""

    code = "limit_reached"


class RemoteFailure(RefusedError):
    """The server failed for a reason of its own, and said so."""

    code = "exception"


class TrustError(LocaltunnelError):
    """The server is not the one that the user named, as far as anybody can tell. Nothing of value was sent to it."""

    code = "untrusted"


class KeyChanged(TrustError):
    """The server shows another key than the one that it is known by."""

    code = "key_changed"


class CertificateUntrusted(TrustError):
    """The server's certificate is not valid for its name at this time."""

    code = "certificate"


class CertificateUnknown(CertificateUntrusted):
    """No authority that this machine knows has signed the server's certificate; it may still be pinned."""

    code = "certificate_unknown"


class DowngradeRefused(TrustError):
    """A server that is known to encrypt, or by a fingerprint, was to be used without encryption."""

    code = "downgrade"


class StorageError(LocaltunnelError):
    """What the server would promise cannot be recorded: the disk is full, or its file is broken."""

    code = "storage"


class OutputError(LocaltunnelError):
    """What was asked for cannot be written to stdout: the disk that it goes to is full."""

    code = "output"


class NetworkError(LocaltunnelError):
    """What the operating system reports about a connection, translated once, in ``net``."""

    code = "network"


class Unreachable(NetworkError):
    """Nothing answers at the address, or its name does not resolve."""

    code = "unreachable"


class ConnectionRefused(Unreachable):
    """The machine answers, but nothing listens on the port."""

    code = "connection_refused"


class ConnectionClosed(NetworkError):
    """The peer closed or reset the connection."""

    code = "closed"


class TlsError(NetworkError):
    """The other side speaks TLS, but not as it is spoken here; or what came was damaged on its way."""

    code = "tls"


class DeadlineExceeded(NetworkError):
    """The total time allowed has passed."""

    code = "deadline"


class ListenError(NetworkError):
    """The address cannot be listened on."""

    code = "cannot_listen"


class VisitorError(LocaltunnelError):
    """What the frontend answers a visitor itself. ``status`` is the HTTP status, ``retry_after`` seconds or None.

    ``fields`` are names and values that the answer carries besides what every such answer has.
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
    """The request is not HTTP/1.x as RFC 9112 has it, or too large."""

    code = "bad_request"
    status = 400


class RequestTimeout(VisitorError):
    """The request's head did not arrive in time."""

    code = "request_timeout"
    status = 408


class Unauthorized(VisitorError):
    """The tunnel asks for a user and a password (RFC 7617), and the request carries none, or others."""

    code = "unauthorized"
    status = 401
    fields = (("WWW-Authenticate", 'Basic realm="localtunnel", charset="UTF-8"'),)


class Forbidden(VisitorError):
    """The visitor's address is none of those that the tunnel lets in."""

    code = "forbidden"
    status = 403


class TooManyRequests(VisitorError):
    """The visitor, or the tunnel, has had its share for the moment. ``retry_after`` is each error's own."""

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
    """The name belongs to somebody whose client is not connected now. It may be back within seconds."""

    code = "client_offline"
    status = 503
    retry_after = 5


class PoolExhausted(VisitorError):
    """No proxy connection became free in time."""

    code = "pool_exhausted"
    status = 503
    retry_after = 1


class ServerFull(VisitorError):
    """The server has as many connections of visitors as its owner allows."""

    code = "server_full"
    status = 503
    retry_after = 5


class UpstreamError(VisitorError):
    """The client has the visitor, but no answer of its upstream. ``word`` is what LTP/0.3 calls it on the wire.

    Raised without a sentence: what the visitor may know is the same for all, and the target is the client's secret.
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
    """The upstream's answer is not HTTP/1.x as RFC 9112 has it, ended within its head, or its head is too large.

    The one of these that the server finds, not the client: it has a sentence, about the answer and not the target.
    """

    code = "upstream_invalid"


class UpstreamTimeout(UpstreamError):
    """The upstream did not accept the connection in time."""

    code = "upstream_timeout"
    word = "timeout"
    status = 504


def upstream_error(word: str) -> UpstreamError:
    """Return the error for a word from the wire; one that is not known here means that the upstream is out of reach."""
    kinds = {kind.word: kind for kind in (UpstreamRefused, UpstreamClosed, UpstreamTimeout)}
    return kinds.get(word, UpstreamUnreachable)()
