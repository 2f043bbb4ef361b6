"""One visitor on its way through a tunnel: bound to a proxy connection, then bytes only until both have closed."""

import time
from collections.abc import Callable, Iterator

from gevent.event import Event

from localtunnel.errors import UpstreamClosed, VisitorError
from localtunnel.net.ends import SocketEnd
from localtunnel.net.relay import Relay
from localtunnel.protocol.messages import Assignment


class Join:
    """Owns the visitor's connection from its making on, and tells its tunnel when it has ended.

    ``first`` are the bytes already read from the visitor. ``refuse`` takes the connection back, to answer the visitor,
    when no upstream could be had.
    """

    __slots__ = (
        "_early",
        "_on_end",
        "_refuse",
        "_relay",
        "_visitor",
        "assigned",
        "assignment",
        "cancel",
        "first",
        "reason",
        "started",
    )

    def __init__(
        self, assignment: Assignment, visitor: SocketEnd, first: bytes, refuse: Callable[[VisitorError], None]
    ) -> None:
        self.assignment = assignment
        self.assigned = 0
        """On how many connections an LTP/0.3 assignment went out: one, unless some of them were dead."""
        self.first = first
        self.started = time.monotonic()
        self.reason: str | None = None
        self.cancel: Callable[[], None] | None = None
        """Ends the attempt to find a proxy connection, while there is one."""
        self._visitor = visitor
        self._refuse = refuse
        self._relay: Relay | None = None
        self._early = 0
        self._on_end: Callable[[Join], None] | None = None

    def __repr__(self) -> str:
        return f"<Join {self.assignment.id} of {self.assignment.peer} {self.reason or 'open'}>"

    @property
    def pending(self) -> bool:
        """Whether the join still waits for a proxy connection."""
        return self._relay is None and self.reason is None

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        return self._early + self._relay.from_a if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes from the upstream so far."""
        return self._relay.from_b if self._relay else 0

    def own(self, on_end: Callable[["Join"], None]) -> None:
        """Be owned: ``on_end(join)`` is called once, when the join has ended in whichever way."""
        self._on_end = on_end

    def relay(self, end: SocketEnd, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Start to relay between the visitor and ``end``, which is the join's from here on.

        The bytes given are those already read, or not yet written. ``hold_eof`` as in ``net.relay.Relay``. An HTTP
        visitor whose upstream ends without a byte is answered instead of left with nothing.
        """
        unanswered = self._unanswered if self.assignment.kind == "http" else None
        relay = Relay(self._visitor, end, self._ended, hold_eof=hold_eof, on_unanswered=unanswered)
        self.cancel = None
        self._relay = relay
        # What went out with the assignment has not been through the relay; some of the frame may yet have to.
        self._early = len(self.first) - len(to_upstream)
        relay.start(to_a=to_visitor, to_b=to_upstream)

    def refuse(self, error: VisitorError) -> None:
        """End before it began: the visitor is answered with ``error``."""
        if self.pending:
            self._ended(error.code)
            self._refuse(error)

    def abort(self, reason: str) -> None:
        """Reset both connections now. May be called twice."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.pending:
            if self.cancel is not None:
                self.cancel()
            self._visitor.reset()
            self._ended(reason)

    def _unanswered(self) -> None:
        self._ended(UpstreamClosed.code)
        self._refuse(UpstreamClosed())

    def _ended(self, reason: str) -> None:
        self.reason = reason
        self.first = b""
        if self._on_end is not None:
            self._on_end(self)


class Joins:
    """Joins that go on now; somebody may wait until there are none."""

    def __init__(self) -> None:
        self._joins: set[Join] = set()
        self.repeated = 0
        """Assignments of joins that have ended that were not the first of their id."""
        self._empty = Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._joins)

    def __iter__(self) -> Iterator[Join]:
        return iter(tuple(self._joins))

    def add(self, join: Join) -> None:
        """Count ``join`` in."""
        self._joins.add(join)
        self._empty.clear()

    def discard(self, join: Join) -> None:
        """Count ``join``, which has ended, out."""
        self._joins.discard(join)
        self.repeated += max(0, join.assigned - 1)
        if not self._joins:
            self._empty.set()

    def wait_until_empty(self, seconds: float) -> None:
        """Block the greenlet until there is none left, or ``seconds`` have passed."""
        self._empty.wait(seconds)

    def abort_all(self, reason: str) -> None:
        """Reset the connections of every join."""
        for join in self:
            join.abort(reason)
