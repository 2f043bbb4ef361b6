"""Rates: token buckets, each stored as one number, with a clock that the caller
provides.

A bucket holds a few seconds' worth of its rate, so that a burst passes and only a
sustained excess is slowed down. This is the generic cell rate algorithm of ITU-T I.371:
the number is the time at which the bucket will be full again. ``now`` is monotonic time
in seconds.
"""

import math

from localtunnel.errors import TooManyRequests

BURST = 5.0
"""Seconds' worth of its rate that a full bucket holds: the time to fetch a page with
all its parts."""

LONGEST_DELAY = 2.0
"""The most seconds that a request is held back before it is refused. A visitor who
waits longer believes that the page hangs, and each waiting request costs memory."""


class Rate:
    """A rate per second, above 0, and how far ahead of it a bucket may be."""

    __slots__ = ("interval", "lead")

    def __init__(self, per_second: float) -> None:
        self.interval = 1 / per_second
        self.lead = max(0.0, BURST - self.interval)


class Bucket:
    """The rest of its rate that one address or one tunnel has."""

    __slots__ = ("_full_at", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """Take a token and return 0.

        If there is none, return the seconds until there is one.
        """
        rate = self._rate
        full_at = self._full_at
        if full_at < now:
            full_at = now
        wait = full_at - now - rate.lead
        if wait > 0:
            return wait
        self._full_at = full_at + rate.interval
        return 0.0

    def reserve(self, now: float) -> float:
        """Take the next token, and return the seconds until it is there.

        They are at most LONGEST_DELAY. Raises TooManyRequests if it would take longer;
        no token is taken then. Reservations are served in turn.
        """
        full_at = max(self._full_at, now)
        wait = max(0.0, full_at - now - self._rate.lead)
        if wait > LONGEST_DELAY:
            raise too_many("requests to this tunnel", wait - LONGEST_DELAY)
        self._full_at = full_at + self._rate.interval
        return wait


def too_many(what: str, wait: float) -> TooManyRequests:
    """Return the error for too many of ``what``.

    One more may come in ``wait`` seconds.
    """
    seconds = max(1, math.ceil(wait))
    unit = "second" if seconds == 1 else "seconds"
    return TooManyRequests(f"There are too many {what}; try again in {seconds} {unit}.", retry_after=seconds)


def bucket(per_second: float) -> Bucket | None:
    """Return a full bucket, or None for a rate of 0, which is no limit."""
    return Bucket(Rate(per_second)) if per_second else None
