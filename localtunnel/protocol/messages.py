"""The typed messages of LTP (PROTOCOL.md, "Messages"); ``codec`` knows their JSON.

Both versions share the types. Types and fields of LTP/0.3 alone are marked as such;
``states`` and ``codec`` keep them out of LTP/0.2.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from localtunnel.protocol.limits import MAX_CLIENT_ID, MAX_PATTERNS, MAX_PORT, MAX_SCRAM, MAX_TEXT

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""A name or any other short text of a request."""

ClientId = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
"""How a client names itself in LTP/0.2: ``user@host;System``. Our client adds an
instance behind another semicolon."""

Secret = Annotated[str, Meta(min_length=32, max_length=64)]
Key = Annotated[str, Meta(min_length=64, max_length=64)]
"""The key by which a client owns its names: 256 bits in hexadecimal."""

Scram = Annotated[str, Meta(min_length=1, max_length=MAX_SCRAM)]
"""One message of a SCRAM exchange, as RFC 5802 writes it; ``scram`` reads and makes
them."""

Patterns = Annotated[tuple[Text, ...], Meta(max_length=MAX_PATTERNS)]
Port = Annotated[int, Meta(ge=1, le=MAX_PORT)]
Id = Annotated[int, Meta(ge=1, lt=1 << 53)]
Size = Annotated[int, Meta(ge=0, lt=1 << 53)]
Kind = Literal["http", "tcp"]


class ControlRequest(Struct, frozen=True):
    """The client asks for a tunnel. ``protect`` is ``user:password`` for visitors,
    ``domain`` a host of its own.

    LTP/0.3: ``instance`` is this run of the client, ``kind`` what visitors speak,
    ``port`` the public port that a ``tcp`` tunnel should have, ``resume`` the session
    to take up again, ``auth`` the beginning of a login by token, ``owner`` the key by
    which a client without a token owns its names, ``takeover`` asks to move the owner's
    open tunnel here, ``options`` what ``protocol.options`` reads, ``recycle`` offers to
    send proxy connections back to the pool when their stream has ended.
    """

    name: Text
    client: ClientId
    protect: Text | None = None
    domain: Text | None = None
    instance: ClientId | None = None
    kind: Kind | None = None
    port: Port | None = None
    resume: Secret | None = None
    auth: Scram | None = None
    owner: Key | None = None
    takeover: bool | None = None
    options: dict[str, Any] | None = None
    recycle: bool | None = None


class ControlReply(Struct, frozen=True):
    """The server opened the tunnel: visitors reach it at ``host``; ``concurrency`` is
    the pool's size.

    LTP/0.3: ``url`` is what to show, ``session`` the secret that proxy requests carry,
    ``heartbeat`` seconds, ``auth`` the server's proof that it knows the token as well,
    ``options`` the names of the options that are in force, ``also`` further URLs of the
    tunnel. ``real_ip`` says that each request on a joined connection has an X-Real-IP
    that the server wrote. ``recycle`` takes up the offer of the request.
    """

    host: str
    concurrency: Annotated[int, Meta(ge=0)] = 1
    banner: str = ""
    url: str | None = None
    session: Secret | None = None
    heartbeat: Annotated[float, Meta(gt=0)] | None = None
    auth: Scram | None = None
    options: tuple[str, ...] | None = None
    also: tuple[str, ...] | None = None
    real_ip: bool | None = None
    recycle: bool | None = None


class Challenge(Struct, frozen=True):
    """LTP/0.3: the server answers a request with ``auth``: SCRAM's
    server-first-message."""

    text: Scram


class Proof(Struct, frozen=True):
    """LTP/0.3: the client answers a challenge: SCRAM's client-final-message. A reply or
    an error follows."""

    text: Scram


class ProxyRequest(Struct, frozen=True):
    """The client offers this connection to the pool of the tunnel ``name``.

    LTP/0.3: ``session`` proves its right to. On a connection that comes back,
    ``delivered`` is how many bytes of its last stream the client has written to the
    upstream.
    """

    name: Text
    client: ClientId | None = None
    session: Secret | None = None
    delivered: Size | None = None


class Assigned(Struct, frozen=True):
    """LTP/0.2: the server bound this connection to a visitor, whose stream follows."""


class Assignment(Struct, frozen=True):
    """LTP/0.3: the same with the visitor's address, under an ``id`` that stays when it
    is repeated elsewhere."""

    id: Id
    peer: str
    kind: Kind = "http"


class Got(Struct, frozen=True):
    """LTP/0.3: the client has the assignment, and takes no other of that id."""

    id: Id


class Ready(Struct, frozen=True):
    """LTP/0.3: the upstream is connected, and its stream follows."""

    id: Id


class Failed(Struct, frozen=True):
    """LTP/0.3: the upstream could not be connected, or the id was ``seen`` before. The
    client closes."""

    id: Id
    error: str


class Ping(Struct, frozen=True):
    """Are you alive? In LTP/0.2 only the server asks, in LTP/0.3 both sides do."""


class Pong(Struct, frozen=True):
    """The answer to a ping."""


class Concurrency(Struct, frozen=True):
    """LTP/0.3: the pool's size from now on."""

    size: Annotated[int, Meta(ge=0)]


class Drain(Struct, frozen=True):
    """LTP/0.3: the server stops within ``seconds``; open no more proxy connections, and
    reconnect when it has."""

    seconds: Annotated[float, Meta(ge=0)]


class Replaced(Struct, frozen=True):
    """LTP/0.3: another run of the client holds the session now. This one ends."""

    text: str


class Notice(Struct, frozen=True):
    """LTP/0.3: a sentence for the client's user."""

    text: str


class Release(Struct, frozen=True):
    """LTP/0.3: the client ends for good, and its name is free."""


class ErrorReply(Struct, frozen=True):
    """The server refuses or fails, and closes. ``error`` is one of the codes below,
    ``message`` a sentence.

    LTP/0.3: ``names`` are the names and globs that the client's token covers, where it
    was refused for its name.
    """

    error: str
    message: str = ""
    names: Patterns | None = None


UNAVAILABLE: Final = "unavailable"
EXPIRED: Final = "expired"
EXCEPTION: Final = "exception"
FLOODED: Final = "flooded"
VERSION: Final = "version"
PORT_REFUSED: Final = "port_refused"
AUTH_REQUIRED: Final = "auth_required"
AUTH_FAILED: Final = "auth_failed"
TOKEN_EXPIRED: Final = "token_expired"
AUTH_THROTTLED: Final = "auth_throttled"
TLS_REQUIRED: Final = "tls_required"
NOT_ALLOWED: Final = "not_allowed"
LIMIT_REACHED: Final = "limit_reached"
KICKED: Final = "kicked"
OPTION_REFUSED: Final = "option_refused"
INVALID_REQUEST: Final = "invalid_request"

SEEN: Final = "seen"
"""The word of ``failed`` for an id that was seen before. Its other words are those of
``errors.UpstreamError``."""

FromClient = ControlRequest | Proof | ProxyRequest | Ping | Pong | Got | Ready | Failed | Release
FromServer = (
    ControlReply
    | Challenge
    | Assigned
    | Assignment
    | Ping
    | Pong
    | Concurrency
    | Drain
    | Replaced
    | Notice
    | ErrorReply
)
Message = FromClient | FromServer

PING: Final = Ping()
PONG: Final = Pong()
ASSIGNED: Final = Assigned()
RELEASE: Final = Release()
