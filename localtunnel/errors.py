"""Every error that localtunnel raises on purpose, each with a stable ``code``.

LocaltunnelError
├── UsageError                  usage                 the command line was not understood
├── ConfigError                 config                a key, a type or a value in a file or the environment
│   └── AddressError            address               an address that cannot be parsed
├── ProtocolError               protocol_error        the peer did not speak LTP as PROTOCOL.md has it
│   ├── HeaderError             not_ltp               the first bytes are not an LTP header
│   ├── VersionError            version_mismatch      LTP, but a version that is not spoken here
│   ├── FrameError              bad_frame             a length or an encoding that no frame may have
│   └── MessageError            bad_message           a well-framed object that is not a known message
├── RefusedError                refused               the server answered with an error message
│   ├── NameUnavailable         unavailable           another client has the name
│   ├── NameInvalid             invalid_name          not a name that a tunnel may have
│   ├── TunnelExpired           expired               a proxy request for a tunnel that is not there
│   └── RemoteFailure           exception             the server failed, and said so
├── NetworkError                network
│   ├── Unreachable             unreachable           nothing answers at the address, or the name does not resolve
│   ├── ConnectionClosed        closed                the peer closed or reset the connection
│   ├── DeadlineExceeded        deadline              the total time allowed has passed
│   └── ListenError             cannot_listen         the address is taken, or not ours
└── VisitorError                (the subclass's)      what the frontend answers a visitor itself
    ├── NoHost                  no_host               400
    ├── BadRequest              bad_request           400
    ├── RequestTimeout          request_timeout       408
    ├── TunnelNotFound          tunnel_not_found      404
    ├── PoolExhausted           pool_exhausted        503
    └── UpstreamRefused         upstream_refused      502

The message of an error is a whole sentence fit for the person who reads it: what went wrong, then what to do about it.
Codes are part of the public interface: in logs, in ``X-Localtunnel-Error``, in ``--json`` output.
"""


class LocaltunnelError(Exception):
    """The root of the tree."""

    code = "internal_error"


class UsageError(LocaltunnelError):
    """The command line was not understood."""

    code = "usage"


class ConfigError(LocaltunnelError):
    """A setting is unknown, of the wrong type or out of range; the message names file, table and key."""

    code = "config"


class AddressError(ConfigError):
    """A text that should be an address is none."""

    code = "address"


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


class RefusedError(LocaltunnelError):
    """The server answered with an error message; ``code`` is the one on the wire."""

    code = "refused"


class NameUnavailable(RefusedError):
    """Another client has the name."""

    code = "unavailable"


class NameInvalid(RefusedError):
    """The name is not one that a tunnel may have."""

    code = "invalid_name"


class TunnelExpired(RefusedError):
    """A proxy request named a tunnel that is not there."""

    code = "expired"


class RemoteFailure(RefusedError):
    """The server failed for a reason of its own, and said so."""

    code = "exception"


class NetworkError(LocaltunnelError):
    """What the operating system reports about a connection, translated once, in ``net``."""

    code = "network"


class Unreachable(NetworkError):
    """Nothing answers at the address, or its name does not resolve."""

    code = "unreachable"


class ConnectionClosed(NetworkError):
    """The peer closed or reset the connection."""

    code = "closed"


class DeadlineExceeded(NetworkError):
    """The total time allowed has passed."""

    code = "deadline"


class ListenError(NetworkError):
    """The address cannot be listened on."""

    code = "cannot_listen"


class VisitorError(LocaltunnelError):
    """What the frontend answers a visitor itself. ``status`` is the HTTP status, ``retry_after`` seconds or None."""

    code = "visitor_error"
    status = 500
    retry_after: int | None = None


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


class TunnelNotFound(VisitorError):
    """No tunnel has the name that the Host field carries."""

    code = "tunnel_not_found"
    status = 404


class PoolExhausted(VisitorError):
    """No proxy connection became free in time."""

    code = "pool_exhausted"
    status = 503
    retry_after = 1


class UpstreamRefused(VisitorError):
    """The client could not connect to its local server."""

    code = "upstream_refused"
    status = 502
