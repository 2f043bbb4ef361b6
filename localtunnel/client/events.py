"""Events, as values: ``client.app.Client`` passes each to its ``report`` callable.

``report`` is called in the hub or in a greenlet, so it must not block or raise.
``docs/events.md`` describes each event for users of ``--json``.
"""

from msgspec import Struct


class TunnelOpened(Struct, frozen=True):
    """The server accepted the name. ``resumed`` is true after a reconnect; ``also`` has
    further URLs."""

    url: str
    name: str
    target: str
    banner: str
    resumed: bool
    also: tuple[str, ...] = ()


class ServerPinned(Struct, frozen=True):
    """The server's key is recorded in ``file``; from now on any other key is
    refused."""

    server: str
    fingerprint: str
    file: str


class ServerNotice(Struct, frozen=True):
    """A message of the server to the user, or of this client about the server."""

    text: str


class RoundTripMeasured(Struct, frozen=True):
    """The round trip to the server: the first measurement, and large changes."""

    seconds: float


class TunnelLost(Struct, frozen=True):
    """The control connection ended. ``retry_in`` is in seconds, None if the client
    gives up."""

    code: str
    message: str
    retry_in: float | None


class RequestStarted(Struct, frozen=True):
    """A long request: a WebSocket or a stream of events has begun, or a second has
    passed.

    ``number`` is that of the ``RequestFinished`` to come; the other fields are as
    there. ``status`` is None while the target has not answered.
    """

    number: int
    connection: int
    visitor: str | None
    method: str
    path: str
    status: int | None


class RequestFinished(Struct, frozen=True, gc=False):
    """A request is over: its answer has passed in full, or never will.

    Several requests may come on one ``connection``, even of several visitors in turn.
    ``visitor`` is an address, None if the server does not tell it. ``path`` is the
    whole target of the request, query included. ``status`` is None if the target has
    not answered. ``seconds`` are from the request's head to the answer's end.
    ``received`` and ``sent`` are bytes of content from and to the visitor: bodies
    without chunk sizes, and what passes on a WebSocket. ``error`` is the code of what
    went wrong: one of ``errors.UpstreamError``, ``visitor_gone`` or ``stopped``.
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
    """A visitor of a TCP tunnel, or one that does not speak HTTP, was connected to the
    target."""

    number: int
    peer: str | None


class VisitorLeft(Struct, frozen=True):
    """The connection of a ``VisitorJoined`` has ended, after so many bytes from and to
    the visitor."""

    number: int
    received: int
    sent: int
    seconds: float
    reason: str


class UpstreamFailed(Struct, frozen=True):
    """The target refused a connection. The visitor gets 502 or 504, or a close if it
    does not speak HTTP."""

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
