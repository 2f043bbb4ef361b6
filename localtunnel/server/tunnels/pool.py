"""The idle proxy connections of one tunnel.

A parked connection is a slot and a watcher, no greenlet. One that becomes readable is dead: its client has nothing to
say before the assignment (PROTOCOL.md, "Proxy Connection"). It is closed and marked on the spot, and skipped when its
turn comes. Newest first, because the newest is the least likely to have died in silence.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.queue import Empty, LifoQueue

from localtunnel.errors import PoolExhausted
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol.limits import PARKED_AGE
from localtunnel.server.limits.quotas import Place


class Parked(SocketEnd):
    """An idle proxy connection. The pool owns it until ``Pool.take`` hands it over, live, to the caller."""

    __slots__ = ("_place", "_pool", "dead", "expires", "outdated")

    def __init__(self, end: SocketEnd, pool: "Pool", place: Place | None) -> None:
        super().__init__(end.sock, end.label, end.watcher)
        self.expires = time.monotonic() + PARKED_AGE * random.uniform(0.8, 1.0)
        self.dead = False
        self.outdated = False
        """Whether its client was asked to replace it."""
        self._pool = pool
        self._place = place
        self.watcher.start(self._became_readable)

    def _became_readable(self) -> None:
        self.kill()
        self._pool.forget(self)

    def unpark(self) -> None:
        """Stop watching: the connection is the caller's."""
        self.watcher.stop()
        self._leave()

    def kill(self) -> None:
        """Close the connection and mark it."""
        self.dead = True
        self.close()
        self._leave()

    def _leave(self) -> None:
        if self._place is not None:
            self._place.release()


class Waiter:
    """Somebody who waits for a connection: one of ``taken(end)`` and ``in_vain(error)`` is called, unless cancelled."""

    __slots__ = ("_in_vain", "_pool", "_timer", "taken")

    def __init__(
        self,
        pool: "Pool",
        deadline: Deadline,
        taken: Callable[[SocketEnd], None],
        in_vain: Callable[[PoolExhausted], None],
    ) -> None:
        self.taken = taken
        self._in_vain = in_vain
        self._pool = pool
        self._timer: Any = gevent.get_hub().loop.timer(deadline.remaining() or 0.0)
        self._timer.start(self.give_up)

    def give_up(self) -> None:
        """No connection has come, or none will."""
        self.cancel()
        self._in_vain(PoolExhausted("The tunnel's client has no free connection; try again in a moment."))

    def cancel(self) -> None:
        """Wait no more; neither is called. May be called twice."""
        self._timer.close()
        self._pool.forget_waiter(self)


def _nobody() -> None:
    """Nobody has to be told."""


class Pool:
    """A gevent LifoQueue of parked connections, with first come, first served among those who wait for one.

    Who waits owns no greenlet either: a flood of visitors at a tunnel without connections costs half a kilobyte each.
    """

    def __init__(self, max_waiting: int) -> None:
        self._queue = LifoQueue()
        self._max_waiting = max_waiting
        self._dead = 0
        self._closed = False
        self._waiters: dict[Waiter, None] = {}
        self._missed: dict[Waiter, None] = {}
        """Those who have been given a connection that did not answer: they came before the others."""
        self.suspect = False
        """Whether an assignment was missed lately: then the other connections may be dead in silence as well."""
        self.on_suspect: Callable[[], None] = _nobody

    def __len__(self) -> int:
        return len(self._queue.queue) - self._dead

    def __repr__(self) -> str:
        return f"<Pool parked={len(self)} dead={self._dead} waiting={self.waiting}>"

    @property
    def closed(self) -> bool:
        """Whether no connection will come any more."""
        return self._closed

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._waiters) + len(self._missed)

    def park(self, end: SocketEnd, place: Place | None = None) -> None:
        """Take ``end`` over, and hand it to whoever has waited longest, or keep it. ``place`` is given back by then."""
        if self._closed:
            end.close()
            if place is not None:
                place.release()
            return
        waiters = self._missed or self._waiters
        if waiters:
            if place is not None:
                place.release()
            waiter = next(iter(waiters))
            waiter.cancel()
            waiter.taken(end)
            return
        self._queue.put_nowait(Parked(end, self, place))

    def take_now(self) -> Parked | None:
        """Return a live connection, which is the caller's then; None when there is none, or others wait already."""
        if self._waiters:
            return None
        while True:
            try:
                parked: Parked = self._queue.get_nowait()
            except Empty:
                return None
            if self._is_live(parked):
                return parked

    def wait(
        self,
        deadline: Deadline,
        taken: Callable[[SocketEnd], None],
        in_vain: Callable[[PoolExhausted], None],
        *,
        missed: bool = False,
    ) -> Waiter:
        """Call ``taken(end)`` with a connection when one is parked, or ``in_vain(error)`` when none is in time.

        ``missed``: those that were parked before may be dead, and the next one is
        fresh; so it goes to its visitor, and newcomers may try the old ones meanwhile.
        Raises PoolExhausted when too many wait already, or the pool is closed.
        """
        if self._closed:
            raise PoolExhausted("The tunnel's client has disconnected; try again in a moment.")
        if self.waiting >= self._max_waiting:
            raise PoolExhausted("Too many visitors are waiting for this tunnel; try again in a moment.")
        waiter = Waiter(self, deadline, taken, in_vain)
        (self._missed if missed else self._waiters)[waiter] = None
        return waiter

    def forget_waiter(self, waiter: Waiter) -> None:
        """Hand it no connection any more."""
        self._waiters.pop(waiter, None)
        self._missed.pop(waiter, None)

    def close(self) -> None:
        """Close every parked connection and turn those away who wait. May be called twice."""
        self._closed = True
        self.on_suspect = _nobody
        for parked in self._queue.queue:
            if not parked.dead:
                parked.kill()
        self._queue.queue.clear()
        self._dead = 0
        for waiter in [*self._missed, *self._waiters]:
            waiter.give_up()

    def suspect_all(self) -> None:
        """Note that an assignment was missed, and let the client know.

        That is news each time: what it has parked since the last one may have died as well.
        """
        self.suspect = True
        self.on_suspect()

    def outdate(self) -> None:
        """Note that the client was asked to replace all that is parked now.

        Whatever it was asked to replace the last time is dead in silence, for its end has not come.
        """
        for parked in [kept for kept in self._queue.queue if not kept.dead]:
            if parked.outdated:
                parked.kill()
                self.forget(parked)
            parked.outdated = True

    def expire(self) -> None:
        """Close what has been parked for too long: middle boxes forget flows, and the client parks fresh ones."""
        now = time.monotonic()
        for parked in [kept for kept in self._queue.queue if not kept.dead and kept.expires <= now]:
            parked.kill()
            self.forget(parked)

    def forget(self, parked: Parked) -> None:
        """Count ``parked``, which has died, and drop the dead once they are the greater part of the queue."""
        self._dead += 1
        if self._dead > len(self) + 8:
            self._queue.queue[:] = [kept for kept in self._queue.queue if not kept.dead]
            self._dead = 0

    def _is_live(self, parked: Parked) -> bool:
        if parked.dead:
            self._dead -= 1
            return False
        parked.unpark()
        return True
