"""Noticing that this machine, or this process, has stood still: a laptop that slept, a SIGSTOP.

What was pending before may be long stale at the server, and the connections may be dead in silence: the client drops
them and reconnects. The monotonic clock stops while a laptop sleeps and the boot-time clock goes on (clock_gettime(2)):
a jump between the two is a sleep, and a monotonic gap between two ticks is a process that was stopped.
"""

import time
from collections.abc import Callable

TICK = 1.0
"""Seconds between two ticks."""

STALLED = 5.0
"""Seconds of standing still that count: longer than any hiccup, shorter than what the server waits for a visitor."""


def boot_time() -> float:
    """Return seconds since boot including sleep, or the monotonic clock where there is no other."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Stall:
    """Told of every tick, it says whether the time since the last one is too long to trust what came before."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, boottime: Callable[[], float] = boot_time
    ) -> None:
        self._monotonic = monotonic
        self._boottime = boottime
        self.tick()

    def tick(self) -> None:
        """Note that the process runs."""
        self._last = self._monotonic()
        self._asleep = self._boottime() - self._last

    def seconds(self) -> float:
        """Return how long the machine slept or the process stood since the last tick, 0 for less than STALLED."""
        now = self._monotonic()
        slept = self._boottime() - now - self._asleep
        stood = now - self._last - TICK
        longest = max(slept, stood)
        return longest if longest >= STALLED else 0.0
