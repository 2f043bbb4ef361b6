"""Relays of which one side has ended: that side is watched no more, and the other may
never end.

A visitor that closes looks like one that only ends its request, and an upstream that
pushes events may be silent for days. So a half-ended relay is cut when nothing has
moved for a while. The side that ended may also be reset or die meanwhile. No event
tells of that, so it is checked now and then.
"""

import time
from typing import Protocol

from localtunnel.net.deadline import Expiry

LOOK = 5.0
"""Seconds between two checks of one relay, which cost two system calls, and so the
delay until a reset is noticed."""


class HalfEnded(Protocol):
    """The interface of a relay to this module."""

    def __hash__(self) -> int:
        """By identity."""

    @property
    def moved(self) -> int:
        """Bytes moved so far, in both directions."""

    @property
    def is_moving(self) -> bool:
        """Whether bytes are in flight, or awaited, that ``moved`` does not show."""

    def failure(self) -> str | None:
        """Return the reason if the connection of an ended side has failed, as far as
        the kernel knows."""

    def give_up(self, reason: str | None) -> None:
        """Reset both sides for ``reason``; None means that the side that has not ended
        is silent."""


class HalfClosed:
    """Checks the half-ended relays of one server or client, with one timer for all. The
    owner closes it.

    A relay is cut once nothing has moved for ``patience`` seconds.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._looks: Expiry[HalfEnded] = Expiry(min(LOOK, patience / 4), self._look)
        self._moved: dict[HalfEnded, tuple[int, float]] = {}
        """For each relay, the bytes moved and the time since when there were no
        more."""

    def __len__(self) -> int:
        return len(self._moved)

    def add(self, relay: HalfEnded) -> None:
        """Check ``relay``, of which one side has ended, from now on."""
        if relay not in self._moved:
            self._moved[relay] = (relay.moved, time.monotonic())
            self._looks.add(relay)

    def discard(self, relay: HalfEnded) -> None:
        """Forget ``relay``. Idempotent."""
        if self._moved.pop(relay, None) is not None:
            self._looks.discard(relay)

    def close(self) -> None:
        """Forget all relays. Idempotent."""
        self._moved.clear()
        self._looks.close()

    def _look(self, relay: HalfEnded) -> None:
        reason = relay.failure()
        if reason is not None:
            relay.give_up(reason)
            return
        now = time.monotonic()
        moved, since = self._moved[relay]
        if relay.moved != moved or relay.is_moving:
            self._moved[relay] = (relay.moved, now)
        elif now - since >= self._patience:
            relay.give_up(None)
            return
        self._looks.add(relay)
