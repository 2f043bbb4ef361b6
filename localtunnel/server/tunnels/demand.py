"""How large a pool an LTP/0.3 tunnel needs: a rule that follows the bursts of its visitors.

The rule. Visitors are counted in windows of one second. When a window has more of them
than the pool's size, the pool grows at once to that many and a quarter more: the next
burst of that size finds everybody a connection. When no window within DECAY_AFTER seconds
came near, it shrinks by a quarter, but never below what the last windows needed. A
tunnel's share is bounded by ``ceiling``, and all shares together by the server's total.

While the server is short of descriptors, pools shrink each time that it has looked for one
in vain: what is parked would keep visitors out.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.deadline import Expiry
from localtunnel.protocol.limits import FIRST_CONCURRENCY

WINDOW = 1.0
"""Seconds that make a burst: a page's requests come within one, and refilling the pool takes less than one."""

DECAY_AFTER = 30.0
"""Seconds without a burst near the pool's size before it shrinks: longer than somebody reads a page."""


GATHER = 0.01
"""Seconds without growth that end a burst as far as the client is told of it: it grows with every few visitors, and one
message is enough. What waits meanwhile would wait for several times as long for the first new connection."""

GATHER_LONGEST = 0.05
"""Seconds after which the client is told although the burst goes on."""


def next_size(size: int, peak: int, ceiling: int, *, decay: bool) -> int:
    """Return the pool's next size after a window with ``peak`` visitors; ``decay`` when the last ones were calm."""
    if peak > size:
        wanted = peak + peak // 4
    elif decay:
        wanted = min(size, max(peak + peak // 4, size * 3 // 4))
    else:
        wanted = size
    return max(FIRST_CONCURRENCY, min(wanted, ceiling))


class Shares:
    """What all tunnels of a server together may ask for, and one alone."""

    def __init__(self, largest: int, total: int) -> None:
        self.largest = largest
        self.calm: Expiry[Demand] = Expiry(DECAY_AFTER, Demand.tick)
        """The pools that are larger than at first, each since its last burst: one timer for all of them."""
        self._left = total

    def ceiling(self, size: int) -> int:
        """Return how large the pool of ``size`` may become."""
        return min(self.largest, size + max(0, self._left))

    def ease(self) -> None:
        """Have every pool that is larger than at first shrink as if it had been calm: descriptors are short."""
        for demand in self.calm:
            demand.shrink()
            if demand.size <= FIRST_CONCURRENCY:
                self.calm.discard(demand)

    def change(self, difference: int) -> None:
        """Count ``difference`` more connections asked for, or fewer."""
        self._left -= difference


class Demand:
    """One tunnel's pool size. ``changed(size)`` is called when it is another one."""

    def __init__(self, shares: Shares, changed: Callable[[int], None], clock: Callable[[], float] = time.monotonic):
        self.size = FIRST_CONCURRENCY
        self._shares = shares
        self._changed = changed
        self._clock = clock
        self._window_started = self._calm_since = clock()
        self._count = 0
        self._peak = 0
        shares.change(self.size)

    def arrived(self) -> None:
        """Count a visitor, and grow when the burst is larger than the pool."""
        now = self._clock()
        if now - self._window_started >= WINDOW:
            self._window_started = now
            self._count = 0
        self._count += 1
        if self._count * 4 < self.size * 3:
            self._peak = max(self._peak, self._count)
            return
        # Calm begins anew, and what came before says nothing about it.
        self._calm_since = now
        self._peak = 0
        if self._count > self.size:
            self._resize(next_size(self.size, self._count, self._shares.ceiling(self.size), decay=False))
        self._await_calm()

    def tick(self) -> None:
        """Shrink if a calm time is over."""
        now = self._clock()
        if now - self._calm_since < DECAY_AFTER:
            return
        self._calm_since = now
        self.shrink()
        self._await_calm()

    def shrink(self) -> None:
        """Shrink by a quarter, but not below what the last windows needed."""
        peak, self._peak = self._peak, 0
        self._resize(next_size(self.size, peak, self._shares.ceiling(self.size), decay=True))

    def close(self) -> None:
        """Give the share back. May be called twice."""
        self._changed = _ignore
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


def _ignore(size: int) -> None:
    """A tunnel that has ended has no pool."""


class Announcing:
    """Tells a client of the size of its pool: ``tell(size)``, once for a burst. Whoever makes it closes it."""

    def __init__(self, size: int, tell: Callable[[int], None]) -> None:
        """``size`` is what the client knows already."""
        self._told = self._size = size
        self._tell = tell
        self._timer: Any = None
        self._grew = False
        self._left = 0.0

    def changed(self, size: int) -> None:
        """The size is another one: it is told as soon as it does not change any more."""
        self._size = size
        self._grew = self._timer is not None
        if self._timer is None:
            self._left = GATHER_LONGEST
            self._timer = gevent.get_hub().loop.timer(GATHER, GATHER)
            self._timer.start(self._look)

    def renew(self) -> None:
        """Ask for none and then for as many as before, so that all are fresh."""
        self._stop()
        self._tell(0)
        self._tell_now()

    def close(self) -> None:
        """Tell nothing any more. Idempotent."""
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
