"""The round trip to the server, and when a change of it is worth a message."""

import time
from collections.abc import Callable

WEIGHT = 1 / 8
"""The weight of each new measurement in the smoothed value, as in TCP (RFC 6298 2.3):
one slow answer does not count for much."""

NOTABLE_CHANGE = 2.0
"""A change is worth a message if the value is so many times longer or shorter than the
last one told …"""

NOTABLE_SECONDS = 0.02
"""… and differs by so many seconds, since less is not noticed …"""

TOLD_INTERVAL = 60.0
"""… and the last message was so many seconds ago: a bad network changes all the
time."""


class RoundTrip:
    """The measurements of one run of the client, across its sessions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._smoothed: float | None = None
        self._told = 0.0
        self._told_at = 0.0

    def measured(self, seconds: float) -> float | None:
        """Add a measurement; return the seconds to tell the user, or None."""
        now = self._clock()
        if self._smoothed is None:
            self._smoothed = seconds
        else:
            self._smoothed += WEIGHT * (seconds - self._smoothed)
            if now - self._told_at < TOLD_INTERVAL or not self._has_changed(self._smoothed):
                return None
        self._told, self._told_at = self._smoothed, now
        return self._smoothed

    def _has_changed(self, seconds: float) -> bool:
        shorter, longer = sorted((seconds, self._told))
        return longer >= NOTABLE_CHANGE * shorter and longer - shorter >= NOTABLE_SECONDS
