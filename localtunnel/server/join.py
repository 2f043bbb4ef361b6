"""One visitor on its way through a tunnel: bound to a proxy connection, then bytes only until both have closed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from gevent.event import Event

from localtunnel.errors import VisitorError
from localtunnel.net.relay import Relay, SocketEnd
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.protocol.messages import ASSIGNED, encode
from localtunnel.server.pool import Parked

_ASSIGNED_0_2 = encode(ASSIGNED)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is bound to a proxy connection: an id that is unique on this server, the visitor's address, the kind."""

    id: int
    peer: str
    kind: Literal["http"]


class Join:
    """Owns the visitor's connection from its making on, and tells its tunnel when it has ended.

    ``first`` are the bytes already read from the visitor. ``refuse`` takes the connection back, to answer the visitor,
    when no proxy connection could be had.
    """

    __slots__ = ("_first", "_on_end", "_refuse", "_relay", "_sent_ahead", "_visitor", "assignment", "reason", "started")

    def __init__(
        self,
        assignment: Assignment,
        visitor: SocketEnd,
        first: bytes,
        refuse: Callable[[VisitorError], None],
    ) -> None:
        self.assignment = assignment
        self.started = time.monotonic()
        self.reason: str | None = None
        self._visitor = visitor
        self._first = first
        self._refuse = refuse
        self._relay: Relay | None = None
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
        return self._relay.from_a + self._sent_ahead if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes from the upstream so far."""
        return self._relay.from_b if self._relay else 0

    def own(self, on_end: Callable[["Join"], None]) -> None:
        """Be owned: ``on_end(join)`` is called once, when the join has ended in whichever way."""
        self._on_end = on_end

    def bind(self, parked: Parked) -> bool:
        """Tell ``parked`` of the assignment, with the visitor's first bytes, and start to relay.

        Returns False, with ``parked`` closed and the visitor untouched, when the connection turned out to be dead.
        """
        if not self.pending:
            parked.close()
            return False
        data = _ASSIGNED_0_2 + self._first
        try:
            sent = parked.try_write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            parked.close()
            return False
        relay = Relay(self._visitor, parked, self._ended, hold_eof=parked.version == LTP_0_2)
        self._relay = relay
        self._sent_ahead = len(self._first) - len(data[sent:])
        relay.start(to_b=data[sent:])
        return True

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
            self._visitor.reset()
            self._ended(reason)

    def _ended(self, reason: str) -> None:
        self.reason = reason
        if self._on_end is not None:
            self._on_end(self)


class Joins:
    """Joins that go on now; somebody may wait until there are none."""

    def __init__(self) -> None:
        self._joins: set[Join] = set()
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
        if not self._joins:
            self._empty.set()

    def wait_until_empty(self, seconds: float) -> None:
        """Block the greenlet until there is none left, or ``seconds`` have passed."""
        self._empty.wait(seconds)

    def abort_all(self, reason: str) -> None:
        """Reset the connections of every join."""
        for join in self:
            join.abort(reason)
