"""What happens to a client, as values: ``client.app.Client`` passes each to its ``report`` callable.

A ``report`` is called in the hub or in a greenlet, so it must not block, and must not raise.
``docs/events.md`` tells users of ``--json`` about each.
"""

from msgspec import Struct


class TunnelOpened(Struct, frozen=True):
    """The server accepted the name; visitors can come. ``resumed`` is true after a reconnect, ``also`` further URLs."""

    url: str
    name: str
    target: str
    banner: str
    resumed: bool
    also: tuple[str, ...] = ()


class ServerPinned(Struct, frozen=True):
    """The server is known by this key from now on, and that is written down in ``file``: any other is refused."""

    server: str
    fingerprint: str
    file: str


class ServerNotice(Struct, frozen=True):
    """The server, or this client about the server, has something to say to the user."""

    text: str


class RoundTripMeasured(Struct, frozen=True):
    """How long a message to the server and its answer take: the first time, and when it has changed a lot."""

    seconds: float


class TunnelLost(Struct, frozen=True):
    """The control connection ended. ``retry_in`` is in seconds; None when the client gives up."""

    code: str
    message: str
    retry_in: float | None


class RequestStarted(Struct, frozen=True):
    """A request lasts: a WebSocket or a stream of events has begun, or a second has passed.

    ``number`` is that of the ``RequestFinished`` to come; the other fields are as there.
    ``status`` is None while the target has not answered.
    """

    number: int
    connection: int
    visitor: str | None
    method: str
    path: str
    status: int | None


class RequestFinished(Struct, frozen=True, gc=False):
    """A request is over: its answer has passed as a whole, or never will.

    Several requests may come on one ``connection``, of one visitor after the other.
    ``visitor`` is an address, None where the server does not tell it. ``path`` is the whole
    target of the request, query included. ``status`` is None where the target has not
    answered. ``seconds`` are from the request's head to the answer's end. ``received`` and
    ``sent`` are bytes of content from and to the visitor: bodies without chunk sizes, and what
    passes on a WebSocket. ``error`` is the code of what went wrong: one of
    ``errors.UpstreamError``, ``visitor_gone`` or ``stopped``.
    """

    number: int
    connection: int
    visitor: str | None
    method: str
    path: str
    status: int | None
    seconds: float
    received: int
    sent: int
    error: str | None


class VisitorJoined(Struct, frozen=True):
    """A visitor of a TCP tunnel was connected to the target, or one who does not speak HTTP."""

    number: int
    peer: str | None


class VisitorLeft(Struct, frozen=True):
    """A connection that was reported as joined has ended. ``received`` and ``sent`` are the bytes from and to it."""

    number: int
    received: int
    sent: int
    seconds: float
    reason: str


class UpstreamFailed(Struct, frozen=True):
    """The target did not accept a connection; the visitor is answered 502 or 504, or closed if it speaks no HTTP."""

    number: int
    target: str
    code: str
    message: str


Event = (
    TunnelOpened
    | ServerPinned
    | ServerNotice
    | RoundTripMeasured
    | TunnelLost
    | RequestStarted
    | RequestFinished
    | VisitorJoined
    | VisitorLeft
    | UpstreamFailed
)
