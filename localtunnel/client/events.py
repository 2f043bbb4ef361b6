"""What happens to a client, as values: ``client.app.Client`` passes each to its ``report`` callable.

A ``report`` is called in the hub or in a greenlet, so it must not block, and must not raise.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """The server accepted the name; visitors can come. ``resumed`` is true after a reconnect."""

    url: str
    name: str
    target: str
    banner: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class ServerPinned:
    """The server is known by this key from now on, and that is written down in ``file``: any other is refused."""

    server: str
    fingerprint: str
    file: str


@dataclass(frozen=True, slots=True)
class ServerNotice:
    """The server, or this client about the server, has something to say to the user."""

    text: str


@dataclass(frozen=True, slots=True)
class RoundTripMeasured:
    """How long a message to the server and its answer take: the first time, and when it has changed a lot."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TunnelLost:
    """The control connection ended. ``retry_in`` is in seconds; None when the client gives up."""

    code: str
    message: str
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class VisitorJoined:
    """A visitor was connected to the target. ``request`` is the first line of what it sent, if that came along."""

    number: int
    peer: str | None
    request: str | None


@dataclass(frozen=True, slots=True)
class RequestFollowed:
    """Another request came on the joined connection ``number``; ``request`` is its first line.

    Whose it is, the server has told the target in ``X-Forwarded-For``: it uses a joined connection for one request
    after the other.
    """

    number: int
    request: str


@dataclass(frozen=True, slots=True)
class VisitorLeft:
    """A joined connection ended. ``received`` and ``sent`` are the bytes from and to the visitor."""

    number: int
    received: int
    sent: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class UpstreamFailed:
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
    | VisitorJoined
    | RequestFollowed
    | VisitorLeft
    | UpstreamFailed
)
