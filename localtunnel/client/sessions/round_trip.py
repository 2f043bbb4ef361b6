"""How long a message to the server and its answer take, and when that is worth another word."""

import time
from collections.abc import Callable

WEIGHT = 1 / 8
"""The part of each new measurement in the smoothed value, as TCP has it (RFC 6298 2.3): one slow
answer is no news."""

NOTABLE_CHANGE = 2.0
"""It is worth another word when it is this many times longer or shorter than what was told last …"""

NOTABLE_SECONDS = 0.02
"""… and differs by so many seconds: nobody notices the rest …"""

TOLD_INTERVAL = 60.0
"""… and nothing was told for so many seconds: a bad network changes all the time."""


class RoundTrip:
    """What is known of it in one run of the client, across its sessions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._smoothed: float | None = None
        self._told = 0.0
        self._told_at = 0.0

    def measured(self, seconds: float) -> float | None:
        """Take a measurement in; returns what to tell the user, if that is worth a word now."""
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
