"""Noticing that this machine, or this process, has stood still: a laptop that slept, a
SIGSTOP.

Assignments from before may be stale, and connections may be silently dead: the client
drops them and reconnects. While a laptop sleeps, the monotonic clock stops and the
boot-time clock goes on (clock_gettime(2)). So a jump between the two is a sleep, and a
gap in the monotonic time between two ticks is a stopped process.
"""

import time
from collections.abc import Callable

TICK = 1.0
"""Seconds between two ticks."""

STALLED = 5.0
"""Seconds that count as a stall: longer than any hiccup, shorter than the server lets a
visitor wait."""


def boot_time() -> float:
    """Return seconds since boot including sleep, or the monotonic clock where there is
    no other."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Stall:
    """Measures the time between ticks, which shows a stall."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, boottime: Callable[[], float] = boot_time
    ) -> None:
        self._monotonic = monotonic
        self._boottime = boottime
        self.tick()

    def tick(self) -> None:
        """Note that the process runs. Called every TICK seconds."""
        self._last = self._monotonic()
        self._asleep = self._boottime() - self._last

    def seconds(self) -> float:
        """Return how long the machine slept or the process stood still since the last
        tick, 0 for less than STALLED."""
        now = self._monotonic()
        slept = self._boottime() - now - self._asleep
        stood = now - self._last - TICK
        longest = max(slept, stood)
        return longest if longest >= STALLED else 0.0
