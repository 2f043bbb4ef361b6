"""From a tunnel that has ended to the one that takes its place: visitors whose request may still be sent wait for it.

A client whose network has changed comes back on a new control connection, and the server makes a new tunnel of it.
What its visitors asked of the old one is not lost by that, unless the client may have it already.
"""

from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.deadline import Deadline


class Succession:
    """What comes after one tunnel. It is settled once: its name has the next tunnel, or is not kept for one.

    Each claim has one, and those that follow one another are a chain: a claim may go
    on to the next without ever having had a tunnel. Where a tunnel takes over the host
    of another name, it follows two.
    """

    __slots__ = ("_before", "_settled", "_waiting")

    def __init__(self) -> None:
        self._before: list[Succession] = []
        """Those of the claims which this one's claim has followed, until they are settled."""
        self._settled = False
        self._waiting: dict[Waiting, None] = {}

    def follow(self, before: "Succession") -> None:
        """Settle ``before`` when this one's claim has a tunnel, or has come to nothing."""
        self._before.append(before)

    def opened(self) -> None:
        """The claim has a tunnel now: those who wait since the one before can go on."""
        followed, self._before = self._before, []
        for before in followed:
            before.settle()

    def settle(self) -> None:
        """Nothing more is to be waited for: let everybody look again. Idempotent."""
        self._settled = True
        for waiting in list(self._waiting):
            waiting.settled()
        self.opened()

    def wait(self, deadline: Deadline, settled: Callable[[], None], in_vain: Callable[[], None]) -> "Waiting | None":
        """Call ``settled()`` once that is so, at once if it is, or else ``in_vain()`` at the deadline.

        Returns what can be cancelled; None where it is settled.
        """
        if self._settled:
            settled()
            return None
        waiting = Waiting(self, deadline, settled, in_vain)
        self._waiting[waiting] = None
        return waiting

    def forget(self, waiting: "Waiting") -> None:
        """Tell it nothing any more."""
        self._waiting.pop(waiting, None)


class Waiting:
    """One who waits. Exactly one of ``settled()`` and ``in_vain()`` is called, unless it is cancelled."""

    __slots__ = ("_in_vain", "_settled", "_succession", "_timer")

    def __init__(
        self, succession: Succession, deadline: Deadline, settled: Callable[[], None], in_vain: Callable[[], None]
    ) -> None:
        self._succession = succession
        self._settled = settled
        self._in_vain = in_vain
        self._timer: Any = gevent.get_hub().loop.timer(deadline.remaining() or 0.0)
        self._timer.start(self._expired)

    def settled(self) -> None:
        """The succession is settled."""
        self.cancel()
        self._settled()

    def cancel(self) -> None:
        """Wait no more. Idempotent."""
        self._timer.close()
        self._succession.forget(self)

    def _expired(self) -> None:
        self.cancel()
        self._in_vain()
