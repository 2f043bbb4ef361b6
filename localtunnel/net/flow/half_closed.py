"""Connections of which one side has said everything: nobody watches that side any more, and the other may never end.

A visitor who closes looks like one who only has nothing more to say, and an upstream that
pushes events may have nothing to say either, for days. So a relay one side of which has
ended is cut when nothing has moved for a while; and it is looked at now and then whether
the side that ended was reset since, or has died, which no event tells.
"""

import time
from typing import Protocol

from localtunnel.net.deadline import Expiry

LOOK = 5.0
"""Seconds between two looks at one relay: as late a reset is noticed, and it costs two system calls."""


class HalfEnded(Protocol):
    """What is looked at: ``net.flow.relay.Relay``."""

    def __hash__(self) -> int:
        """Identity: relays are told apart, and never compared."""

    @property
    def moved(self) -> int:
        """How many bytes have moved, from one side to the other."""

    @property
    def is_moving(self) -> bool:
        """Whether something is on its way, or is waited for, that does not show in ``moved``."""

    def failure(self) -> str | None:
        """Return what has become of a side that has ended, if the kernel knows that its connection has failed."""

    def give_up(self, reason: str | None) -> None:
        """Reset both sides, for ``reason``, or because the one that has not ended is silent."""


class HalfClosed:
    """Looks after the half-ended relays of one server or client, with one timer for all. The owner closes it.

    ``patience`` is for how many seconds nothing may move.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._looks: Expiry[HalfEnded] = Expiry(min(LOOK, patience / 4), self._look)
        self._moved: dict[HalfEnded, tuple[int, float]] = {}
        """How much had moved of each, and since when it has not become more."""

    def __len__(self) -> int:
        return len(self._moved)

    def add(self, relay: HalfEnded) -> None:
        """Look after ``relay``, of which one side has ended."""
        if relay not in self._moved:
            self._moved[relay] = (relay.moved, time.monotonic())
            self._looks.add(relay)

    def discard(self, relay: HalfEnded) -> None:
        """Forget ``relay``, whether it is looked after or not."""
        if self._moved.pop(relay, None) is not None:
            self._looks.discard(relay)

    def close(self) -> None:
        """Look after nothing any more. Idempotent."""
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
