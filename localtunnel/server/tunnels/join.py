"""One visitor in a tunnel, bound to a proxy connection for a stream or an exchange."""

import time
from collections.abc import Callable, Iterator

from gevent.event import Event

from localtunnel.errors import VisitorError
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.metered import Allowance
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections
from localtunnel.server.tunnels.returns import Returns


class Join:
    """A visitor that is to be bound to a proxy connection, owned by its tunnel.

    ``first`` are the bytes for the upstream that have already arrived.
    """

    __slots__ = ("_on_end", "assigned", "cancel", "first", "half_closed", "meter", "reason", "returns", "started")

    def __init__(self, first: bytes) -> None:
        self.assigned = 0
        """The connections on which the assignment went out: one, unless some were
        dead."""
        self.first = first
        self.meter: Allowance | None = None
        """The limit for the bytes of this join in both directions, if its client has
        one."""
        self.half_closed: HalfClosed | None = None
        """Looks after streams of which one side has ended. Set by the tunnel."""
        self.returns: Returns | None = None
        """Takes the proxy connection when its stream has ended, if it may come back. Set
        by the tunnel."""
        self.started = time.monotonic()
        self.reason: str | None = None
        self.cancel: Callable[[], None] | None = None
        """Ends the search for a proxy connection, while there is one."""
        self._on_end: Callable[[Join], None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.assignment.id} of {self.assignment.peer} {self.reason or 'open'}>"

    @property
    def assignment(self) -> Assignment:
        """The message that tells the client about the visitor."""
        raise NotImplementedError

    @property
    def pending(self) -> bool:
        """Whether it still waits for a proxy connection."""
        raise NotImplementedError

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Bytes from the upstream so far."""
        raise NotImplementedError

    def take_kept(self, kept: KeptConnections) -> KeptConnection | None:
        """Take a kept connection, if this join may use one. The caller then owns it."""
        return None

    def carried(self, carrier: KeptConnection) -> None:
        """Begin on ``carrier``, which ``take_kept`` has returned."""
        raise NotImplementedError

    def tick(self, seconds: float) -> None:
        """Check time limits. Called every ``seconds``."""

    def own(self, on_end: Callable[["Join"], None]) -> None:
        """Set the owner: ``on_end(join)`` is called once, when the join has ended."""
        self._on_end = on_end

    def joined(self, end: End, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Begin on ``end``, the assigned proxy connection, and take ownership of it.

        ``to_visitor`` was already read from it; ``to_upstream`` is still to be written.
        With ``hold_eof``, the client takes a FIN for the end of both directions.
        """
        raise NotImplementedError

    def refuse(self, error: VisitorError) -> None:
        """End before it began, and answer the visitor with ``error``."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Reset both connections now. Idempotent."""
        raise NotImplementedError

    def _ended(self, reason: str) -> None:
        self.reason = reason
        if self._on_end is not None:
            self._on_end(self)
        self.first = b""


class Joins:
    """The joins that are open now.

    ``half_closed``, if given, looks after streams of which one side has ended.
    """

    def __init__(self, half_closed: HalfClosed | None = None) -> None:
        self.half_closed = half_closed
        self._joins: set[Join] = set()
        self.repeated = 0
        """Repeated assignments of joins that have ended."""
        self._empty: Event | None = None
        """Set when the last join has ended, while ``wait_until_empty`` blocks."""

    def __len__(self) -> int:
        return len(self._joins)

    def __iter__(self) -> Iterator[Join]:
        return iter(tuple(self._joins))

    def add(self, join: Join) -> None:
        """Add ``join``."""
        self._joins.add(join)

    def discard(self, join: Join) -> None:
        """Remove ``join``, which has ended."""
        self._joins.discard(join)
        if join.assigned > 1:
            self.repeated += join.assigned - 1
        if self._empty is not None and not self._joins:
            self._empty.set()

    def wait_until_empty(self, seconds: float) -> None:
        """Block the greenlet until no join is left, or ``seconds`` have passed."""
        if self._joins:
            self._empty = Event()
            self._empty.wait(seconds)
            self._empty = None

    def abort_all(self, reason: str) -> None:
        """Reset the connections of every join."""
        for join in self:
            join.abort(reason)
