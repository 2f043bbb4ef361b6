"""The idle proxy connections of one tunnel.

A parked connection has a slot and a watcher, and no greenlet. One that becomes readable
is dead, since its client sends nothing before the assignment (PROTOCOL.md, "Proxy
Connection"). It is closed and marked at once, and skipped when its turn comes. The
newest goes first: it is the least likely to have died without a sign of it.
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
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.context import TlsSocket
from localtunnel.protocol.limits import PARKED_AGE
from localtunnel.server.limits.quotas import Place


class Parked(SocketEnd):
    """An idle proxy connection.

    The pool owns it until ``take_now`` hands it to the caller.
    """

    __slots__ = ("_place", "dead", "expires", "outdated")

    def __init__(self, end: SocketEnd, pool: "Pool", place: Place | None) -> None:
        super().__init__(end.sock, end.label, end.watcher)
        self.expires = _expiry(end.sock)
        self.dead = False
        self.outdated = False
        """Whether the client was asked to replace it."""
        self._place = place
        self.watcher.start(pool.lose, self)

    def unpark(self) -> None:
        """Stop watching. The caller owns the connection."""
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


def _expiry(sock: Socket) -> float:
    """Return when ``sock`` is to be replaced.

    At random, so that what was parked together is not replaced together. Of many draws
    for one connection the earliest would win.
    """
    drawn = PARKED_AGE * random.uniform(0.8, 1.0)
    if not isinstance(sock, TlsSocket):
        return time.monotonic() + drawn
    sock.expires = sock.expires or sock.since + drawn
    return sock.expires


class Waiter:
    """A visitor that waits for a connection.

    One of ``taken(end)`` and ``in_vain(error)`` is called, unless it is cancelled.
    """

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
        """Stop waiting, and say that no connection has come."""
        self.cancel()
        self._in_vain(PoolExhausted("The tunnel's client has no free connection; try again in a moment."))

    def cancel(self) -> None:
        """Stop waiting, without a call. Idempotent."""
        self._timer.close()
        self._pool.forget_waiter(self)


def _nobody() -> None:
    """Do nothing."""


class Pool:
    """Parked connections in a gevent LifoQueue, and the visitors that wait for one.

    Waiters need no greenlet: a flood of visitors at a tunnel without connections costs
    half a kilobyte each. ``on_suspect()`` is called when parked connections may be
    dead.
    """

    def __init__(self, max_waiting: int, on_suspect: Callable[[], None] = _nobody) -> None:
        self._queue = LifoQueue()
        self._max_waiting = max_waiting
        self._dead = 0
        self._closed = False
        self._waiters: dict[Waiter, None] = {}
        self._missed: dict[Waiter, None] = {}
        """Those whose connection did not answer. They came first, so they are served
        first."""
        self.suspect = False
        """Whether an assignment was missed lately, so that other connections may be
        dead too."""
        self._on_suspect = on_suspect

    def __len__(self) -> int:
        return len(self._queue.queue) - self._dead

    def __repr__(self) -> str:
        return f"<Pool parked={len(self)} dead={self._dead} waiting={self.waiting}>"

    @property
    def closed(self) -> bool:
        """Whether the pool takes no more connections."""
        return self._closed

    @property
    def waiting(self) -> int:
        """The number of visitors that wait for a connection."""
        return len(self._waiters) + len(self._missed)

    def park(self, end: SocketEnd, place: Place | None = None) -> None:
        """Take ownership of ``end``.

        It goes to the visitor that has waited longest, or is kept. ``place`` is
        released when the connection is no longer parked.
        """
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
        """Return a live connection, which the caller then owns.

        Returns None if there is none, or if others wait already.
        """
        if self._waiters:
            return None
        while True:
            try:
                parked: Parked = self._queue.get_nowait()
            except Empty:
                return None
            if not parked.dead:
                parked.unpark()
                return parked
            self._dead -= 1

    def wait(
        self,
        deadline: Deadline,
        taken: Callable[[SocketEnd], None],
        in_vain: Callable[[PoolExhausted], None],
        *,
        missed: bool = False,
    ) -> Waiter:
        """Call ``taken(end)`` when a connection is parked, or else ``in_vain(error)``.

        With ``missed``, the connections that were parked before may be dead, and the
        next one is fresh. It goes to this waiter, and newcomers may try the old ones in
        the meantime. Raises PoolExhausted when too many wait already, or the pool is
        closed.
        """
        if self._closed:
            raise PoolExhausted("The tunnel's client has disconnected; try again in a moment.")
        if self.waiting >= self._max_waiting:
            raise PoolExhausted("Too many visitors are waiting for this tunnel; try again in a moment.")
        waiter = Waiter(self, deadline, taken, in_vain)
        (self._missed if missed else self._waiters)[waiter] = None
        return waiter

    def forget_waiter(self, waiter: Waiter) -> None:
        """Remove ``waiter``."""
        self._waiters.pop(waiter, None)
        self._missed.pop(waiter, None)

    def close(self) -> None:
        """Close all parked connections, and turn waiting visitors away. Idempotent."""
        self._closed = True
        self._on_suspect = _nobody
        for parked in self._queue.queue:
            if not parked.dead:
                parked.kill()
        self._queue.queue.clear()
        self._dead = 0
        for waiter in [*self._missed, *self._waiters]:
            waiter.give_up()

    def suspect_all(self) -> None:
        """Note that an assignment was missed, and report it.

        Each miss is news: the connections that were parked since the last one may be
        dead as well.
        """
        self.suspect = True
        self._on_suspect()

    def outdate(self) -> None:
        """Note that the client was asked to replace all parked connections.

        Those that it was asked to replace last time are dead: their end has never come.
        """
        for parked in [kept for kept in self._queue.queue if not kept.dead]:
            if parked.outdated:
                self.lose(parked)
            parked.outdated = True

    def expire(self) -> None:
        """Close connections that were parked for too long; the client parks fresh ones.

        Middle boxes forget idle flows.
        """
        now = time.monotonic()
        for parked in [kept for kept in self._queue.queue if not kept.dead and kept.expires <= now]:
            self.lose(parked)

    def lose(self, parked: Parked) -> None:
        """Close ``parked``, which is dead.

        It stays in the queue until its turn, or until the dead are the greater part.
        """
        parked.kill()
        self._dead += 1
        if self._dead > len(self) + 8:
            self._queue.queue[:] = [kept for kept in self._queue.queue if not kept.dead]
            self._dead = 0
