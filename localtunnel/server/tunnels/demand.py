"""The size of an LTP/0.3 tunnel's pool, which follows the bursts of its visitors.

Visitors are counted in windows of one second, less the connections that come back: who
comes after the one before has gone needs no further connection. If a window has more
visitors than the pool has connections, the pool grows at once to that number and a
quarter more, so that the next burst of that size needs no waiting. If no window within
DECAY_AFTER seconds came near the pool's size, the pool shrinks by a quarter, but not
below the peak of those windows. The share of a tunnel is bounded by ``ceiling``, and
all shares together, beyond the first few connections of each, by the server's total. A
tunnel without visitors keeps IDLE_CONCURRENCY connections, until one comes.

While the server is short of descriptors, pools shrink each time that it has looked for
one in vain: parked connections would keep visitors out.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.deadline import Expiry
from localtunnel.protocol.limits import FIRST_CONCURRENCY, IDLE_CONCURRENCY, IDLE_TUNNEL

WINDOW = 1.0
"""Seconds in a window: the requests of one page come within them, and refilling the
pool takes less."""

DECAY_AFTER = 30.0
"""Seconds without a burst near the pool's size before it shrinks: longer than a person
reads one page."""


GATHER = 0.01
"""Seconds without growth after which the client is told of the new size. The pool grows
with every few visitors of a burst, and one message is enough. The visitors that wait in
that time would wait several times as long for the first new connection anyway."""

GATHER_LONGEST = 0.05
"""Seconds after which the client is told even if the burst goes on."""


def next_size(size: int, peak: int, ceiling: int, *, decay: bool) -> int:
    """Return the pool's next size after a window with ``peak`` visitors.

    With ``decay``, the last windows were calm.
    """
    if peak > size:
        wanted = peak + peak // 4
    elif decay:
        wanted = min(size, max(peak + peak // 4, size * 3 // 4))
    else:
        wanted = size
    return max(FIRST_CONCURRENCY, min(wanted, ceiling))


class Shares:
    """The connections that all tunnels together may ask their clients for."""

    def __init__(self, largest: int, total: int, idle: float = IDLE_TUNNEL) -> None:
        """After ``idle`` seconds without a visitor a pool is as small as it gets."""
        self.largest = largest
        self.patience = idle
        self.calm: Expiry[Demand] = Expiry(DECAY_AFTER, Demand.tick)
        """The pools that have grown, by their last burst. One timer serves all of
        them."""
        self._left = total

    def ceiling(self, size: int) -> int:
        """Return the largest size for a pool that has ``size`` connections now."""
        return min(self.largest, size + max(0, self._left))

    def ease(self) -> None:
        """Shrink all pools that have grown, as after a calm time.

        Descriptors are short.
        """
        for demand in self.calm:
            demand.shrink()
            if demand.size <= FIRST_CONCURRENCY:
                self.calm.discard(demand)

    def change(self, difference: int) -> None:
        """Count ``difference`` more connections, or fewer if it is negative."""
        self._left -= difference


class Demand:
    """The size of one tunnel's pool. ``changed(size)`` is called with each new size."""

    def __init__(self, shares: Shares, changed: Callable[[int], None], clock: Callable[[], float] = time.monotonic):
        self.size = FIRST_CONCURRENCY
        self._shares = shares
        self._changed = changed
        self._clock = clock
        self._window_started = self._calm_since = self.visited = clock()
        """``visited`` is when the last visitor came, whether a connection was taken from
        the pool for it or not. The owner sets it."""
        self._count = 0
        self._peak = 0
        shares.change(self.size)

    def arrived(self) -> None:
        """Count a visitor, and grow if the burst is larger than the pool."""
        now = self._clock()
        if self.size < FIRST_CONCURRENCY:
            self._resize(FIRST_CONCURRENCY)
        if now - self._window_started >= WINDOW:
            self._window_started = now
            self._count = 0
        self._count += 1
        if self._count * 4 < self.size * 3:
            self._peak = max(self._peak, self._count)
            return
        # The calm time begins again, and earlier peaks do not count for it.
        self._calm_since = now
        self._peak = 0
        if self._count > self.size:
            self._resize(next_size(self.size, self._count, self._shares.ceiling(self.size), decay=False))
        self._await_calm()

    def came_back(self) -> None:
        """Note that a connection has come back to the pool, for the next visitor."""
        if self._count:
            self._count -= 1

    def tick(self) -> None:
        """Shrink if a calm time is over."""
        now = self._clock()
        if now - self._calm_since < DECAY_AFTER:
            return
        self._calm_since = now
        self.shrink()
        self._await_calm()

    def look(self) -> None:
        """Shrink to the least size where no visitor has come for long.

        To be called every few seconds.
        """
        if self.size > IDLE_CONCURRENCY and self._clock() - self.visited >= self._shares.patience:
            self._shares.calm.discard(self)
            self._resize(IDLE_CONCURRENCY)

    def shrink(self) -> None:
        """Shrink by a quarter, but not below the peak of the last windows."""
        peak, self._peak = self._peak, 0
        if self.size > FIRST_CONCURRENCY:
            self._resize(next_size(self.size, peak, self._shares.ceiling(self.size), decay=True))

    def close(self) -> None:
        """Give the share back. Idempotent."""
        self._shares.change(-self.size)
        self._shares.calm.discard(self)
        if not len(self._shares.calm):
            self._shares.calm.close()
        self.size = 0

    def _await_calm(self) -> None:
        if self.size > FIRST_CONCURRENCY:
            self._shares.calm.add(self)

    def _resize(self, size: int) -> None:
        if self.size and size != self.size:
            self._shares.change(size - self.size)
            self.size = size
            self._changed(size)


class Announcing:
    """Tells a client the size of its pool by ``tell(size)``, once for each burst.

    The owner closes it.
    """

    def __init__(self, size: int, tell: Callable[[int], None]) -> None:
        """``size`` is the one that the client knows already."""
        self._told = self._size = size
        self._tell = tell
        self._timer: Any = None
        self._grew = False
        self._left = 0.0

    def changed(self, size: int) -> None:
        """Tell the client the new size as soon as it has stopped changing."""
        self._size = size
        self._grew = self._timer is not None
        if self._timer is None:
            self._left = GATHER_LONGEST
            self._timer = gevent.get_hub().loop.timer(GATHER, GATHER)
            self._timer.start(self._look)

    def renew(self) -> None:
        """Ask for no connections and then for as many as before: all are fresh then."""
        self._stop()
        self._tell(0)
        self._tell_now()

    def close(self) -> None:
        """Stop. Idempotent."""
        self._stop()

    def _look(self) -> None:
        self._left -= GATHER
        if self._grew and self._left > 0:
            self._grew = False
            return
        self._stop()
        if self._size != self._told:
            self._tell_now()

    def _tell_now(self) -> None:
        self._told = self._size
        self._tell(self._size)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
