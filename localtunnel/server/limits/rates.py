"""How often something may happen: token buckets, each kept as one number, with a clock that the caller brings.

A bucket holds a few seconds' worth of its rate, so that a burst passes and only what goes on is slowed (this is the
generic cell rate algorithm of ITU-T I.371: the number is when the bucket will be full again). ``now`` is monotonic
time in seconds.
"""

import math

from localtunnel.errors import TooManyRequests

BURST = 5.0
"""Seconds' worth of its rate that a full bucket holds: a page with all its parts is fetched within them."""

LONGEST_DELAY = 2.0
"""Seconds that a request is held back at most before it is refused instead: whoever waits longer believes that the page
hangs, and each one that waits costs memory."""


class Rate:
    """A number of times per second, above 0, and how far one may be ahead of it."""

    __slots__ = ("interval", "lead")

    def __init__(self, per_second: float) -> None:
        self.interval = 1 / per_second
        self.lead = max(0.0, BURST - self.interval)


class Bucket:
    """What one address, or one tunnel, has left of its rate."""

    __slots__ = ("_full_at", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        rate = self._rate
        full_at = self._full_at
        if full_at < now:
            full_at = now
        wait = full_at - now - rate.lead
        if wait > 0:
            return wait
        self._full_at = full_at + rate.interval
        return 0.0

    def reserve(self, now: float, longest: float = LONGEST_DELAY) -> float:
        """Take the next token, and return in how many seconds it will be there: 0, or more but not above ``longest``.

        Raises ``TooManyRequests`` when it would take longer, and then takes none. Whoever reserves is served in turn.
        """
        full_at = max(self._full_at, now)
        wait = max(0.0, full_at - now - self._rate.lead)
        if wait > longest:
            raise too_many("requests to this tunnel", wait - longest)
        self._full_at = full_at + self._rate.interval
        return wait


def too_many(what: str, wait: float) -> TooManyRequests:
    """Return the error for too many of ``what``, of which one more may come in ``wait`` seconds."""
    seconds = max(1, math.ceil(wait))
    unit = "second" if seconds == 1 else "seconds"
    return TooManyRequests(f"There are too many {what}; try again in {seconds} {unit}.", retry_after=seconds)


def bucket(per_second: float) -> Bucket | None:
    """Return a full bucket, or None where ``per_second`` is 0: no limit."""
    return Bucket(Rate(per_second)) if per_second else None
