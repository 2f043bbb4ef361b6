"""How large a pool an LTP/0.3 tunnel needs: a rule that follows the bursts of its visitors.

The rule. Visitors are counted in windows of one second. When a window has more of them than the pool's size, the pool
grows at once to that many and a quarter more: the next burst of that size finds everybody a connection. When no window
within DECAY_AFTER seconds came near, it shrinks by a quarter, but never below what the last windows needed. A tunnel's
share is bounded by ``ceiling``, and all shares together by the server's total.
"""

import time
from collections.abc import Callable

from localtunnel.protocol.limits import FIRST_CONCURRENCY

WINDOW = 1.0
"""Seconds that make a burst: a page's requests come within one, and refilling the pool takes less than one."""

DECAY_AFTER = 30.0
"""Seconds without a burst near the pool's size before it shrinks: longer than somebody reads a page."""


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
        self._left = total

    def ceiling(self, size: int) -> int:
        """Return how large the pool of ``size`` may become."""
        return min(self.largest, size + max(0, self._left))

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
        self._peak = max(self._peak, self._count)
        if self._count * 4 >= self.size * 3:
            self._calm_since = now
        if self._count > self.size:
            self._resize(next_size(self.size, self._count, self._shares.ceiling(self.size), decay=False))

    def tick(self) -> None:
        """Shrink after a calm time; to be called every few seconds."""
        now = self._clock()
        if now - self._calm_since < DECAY_AFTER:
            return
        self._calm_since = now
        peak, self._peak = self._peak, 0
        self._resize(next_size(self.size, peak, self._shares.ceiling(self.size), decay=True))

    def close(self) -> None:
        """Give the share back. May be called twice."""
        self._shares.change(-self.size)
        self.size = 0

    def _resize(self, size: int) -> None:
        if self.size and size != self.size:
            self._shares.change(size - self.size)
            self.size = size
            self._changed(size)
