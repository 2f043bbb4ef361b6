"""The idle proxy connections of one tunnel.

A parked connection is a slot and a watcher, no greenlet. One that becomes readable is dead: its client has nothing to
say before the assignment (PROTOCOL.md, "Proxy Connection"). It is closed and marked on the spot, and skipped when its
turn comes. Newest first, because the newest is the least likely to have died in silence.
"""

import random
import time
from collections.abc import Callable

from gevent.queue import Empty, LifoQueue

from localtunnel.errors import PoolExhausted
from localtunnel.net.deadline import Deadline
from localtunnel.net.ends import SocketEnd
from localtunnel.protocol.limits import PARKED_AGE


class Parked(SocketEnd):
    """An idle proxy connection. The pool owns it until ``Pool.take`` hands it over, live, to the caller."""

    __slots__ = ("_pool", "dead", "expires")

    def __init__(self, end: SocketEnd, pool: "Pool") -> None:
        super().__init__(end.sock, end.label, end.watcher)
        self.expires = time.monotonic() + PARKED_AGE * random.uniform(0.8, 1.0)
        self.dead = False
        self._pool = pool
        self.watcher.start(self._became_readable)

    def _became_readable(self) -> None:
        self.kill()
        self._pool.forget(self)

    def unpark(self) -> None:
        """Stop watching: the connection is the caller's."""
        self.watcher.stop()

    def kill(self) -> None:
        """Close the connection and mark it."""
        self.dead = True
        self.close()


class Pool:
    """A gevent LifoQueue of parked connections, with first come, first served among those who wait for one."""

    def __init__(self, max_waiting: int) -> None:
        self._queue = LifoQueue()
        self._max_waiting = max_waiting
        self._dead = 0
        self._closed = False
        self.waiting = 0
        self.suspect = False
        """Whether an assignment was missed lately: then the other connections may be dead in silence as well."""
        self.on_suspect: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._queue.queue) - self._dead

    def __repr__(self) -> str:
        return f"<Pool parked={len(self)} dead={self._dead} waiting={self.waiting}>"

    def park(self, end: SocketEnd) -> None:
        """Take ``end`` over, and hand it to whoever has waited longest, or keep it."""
        if self._closed:
            end.close()
            return
        self._queue.put_nowait(Parked(end, self))

    def take_now(self) -> Parked | None:
        """Return a live connection, which is the caller's then; None when there is none, or others wait already."""
        if self.waiting:
            return None
        while True:
            try:
                parked: Parked = self._queue.get_nowait()
            except Empty:
                return None
            if self._is_live(parked):
                return parked

    def take(self, deadline: Deadline) -> Parked:
        """Block the greenlet until a live connection is the caller's. Raises PoolExhausted when none comes in time."""
        if self.waiting >= self._max_waiting:
            raise PoolExhausted("Too many visitors wait for this tunnel; try again in a moment.")
        self.waiting += 1
        try:
            while not self._closed:
                parked: Parked | None = self._queue.get(timeout=deadline.remaining())
                if parked is not None and self._is_live(parked):
                    return parked
        except Empty:
            pass
        finally:
            self.waiting -= 1
        raise PoolExhausted("The tunnel's client has no connection free; try again in a moment.")

    def close(self) -> None:
        """Close every parked connection and turn those away who wait. May be called twice."""
        self._closed = True
        for parked in self._queue.queue:
            if not parked.dead:
                parked.kill()
        self._queue.queue.clear()
        self._dead = 0
        for _ in range(self.waiting):
            self._queue.put_nowait(None)

    def suspect_all(self) -> None:
        """Note that an assignment was missed, and let the client know when that is news."""
        if not self.suspect:
            self.suspect = True
            self.on_suspect()

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
