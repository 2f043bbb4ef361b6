"""One visitor on its way through a tunnel: bound to a proxy connection, for bytes only or for one exchange."""

import time
from collections.abc import Callable, Iterator

from gevent.event import Event

from localtunnel.errors import VisitorError
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.metered import Allowance
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections


class Join:
    """A visitor that is to be bound to a proxy connection. Its tunnel owns it, and is told when it has ended.

    ``first`` are the bytes for the upstream that are known already.
    """

    __slots__ = ("_on_end", "assigned", "cancel", "first", "half_closed", "meter", "reason", "started")

    def __init__(self, first: bytes) -> None:
        self.assigned = 0
        """On how many connections an LTP/0.3 assignment went out: one, unless some of them were dead."""
        self.first = first
        self.meter: Allowance | None = None
        """What the bytes of this join, in both directions, are counted against, where its client has such a limit."""
        self.half_closed: HalfClosed | None = None
        """What looks after streams of bytes one side of which has ended, once the join is its tunnel's."""
        self.started = time.monotonic()
        self.reason: str | None = None
        self.cancel: Callable[[], None] | None = None
        """Ends the attempt to find a proxy connection, while there is one."""
        self._on_end: Callable[[Join], None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.assignment.id} of {self.assignment.peer} {self.reason or 'open'}>"

    @property
    def assignment(self) -> Assignment:
        """What a client is told about the visitor."""
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
        """Return a connection that is joined already, where one may be used; it is the receiver's then."""
        return None

    def carried(self, carrier: KeptConnection) -> None:
        """Begin on ``carrier``, which ``take_kept`` has returned."""
        raise NotImplementedError

    def tick(self, seconds: float) -> None:
        """Look after time limits; called every ``seconds``."""

    def own(self, on_end: Callable[["Join"], None]) -> None:
        """Be owned: ``on_end(join)`` is called once, when it has ended in whichever way."""
        self._on_end = on_end

    def joined(self, end: End, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Begin: ``end``, the proxy connection that has the assignment, is the receiver's from here on.

        The bytes given are those already read, or not yet written. ``hold_eof``: the client takes a FIN for the end of
        both directions.
        """
        raise NotImplementedError

    def refuse(self, error: VisitorError) -> None:
        """End before it began: the visitor is answered with ``error``."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Reset both connections now. May be called twice."""
        raise NotImplementedError

    def _ended(self, reason: str) -> None:
        self.reason = reason
        if self._on_end is not None:
            self._on_end(self)
        self.first = b""


class Joins:
    """Joins and exchanges that go on now; somebody may wait until there are none.

    ``half_closed`` is what looks after those that are streams of bytes, where there is something.
    """

    def __init__(self, half_closed: HalfClosed | None = None) -> None:
        self.half_closed = half_closed
        self._joins: set[Join] = set()
        self.repeated = 0
        """Assignments of joins that have ended that were not the first of their id."""
        self._empty: Event | None = None
        """Set when the last one has ended, while somebody waits for that."""

    def __len__(self) -> int:
        return len(self._joins)

    def __iter__(self) -> Iterator[Join]:
        return iter(tuple(self._joins))

    def add(self, join: Join) -> None:
        """Count ``join`` in."""
        self._joins.add(join)

    def discard(self, join: Join) -> None:
        """Count ``join``, which has ended, out."""
        self._joins.discard(join)
        if join.assigned > 1:
            self.repeated += join.assigned - 1
        if self._empty is not None and not self._joins:
            self._empty.set()

    def wait_until_empty(self, seconds: float) -> None:
        """Block the greenlet until there is none left, or ``seconds`` have passed."""
        if self._joins:
            self._empty = Event()
            self._empty.wait(seconds)
            self._empty = None

    def abort_all(self, reason: str) -> None:
        """Reset the connections of every join."""
        for join in self:
            join.abort(reason)
