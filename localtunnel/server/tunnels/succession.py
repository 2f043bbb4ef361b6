"""From a tunnel that has ended to the one that takes its place.

A client whose network has changed comes back on a new control connection, and the
server makes a new tunnel for it. Requests that were sent to the old tunnel wait for the
new one, unless the client may have received them already.
"""

from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.deadline import Deadline


class Succession:
    """What comes after one tunnel: the next one, or none.

    It is settled once. Each claim has one, and the successions of claims that follow
    one another form a chain: a claim may be followed before it ever had a tunnel. A
    tunnel that takes over the host of another name follows two.
    """

    __slots__ = ("_before", "_settled", "_waiting")

    def __init__(self) -> None:
        self._before: list[Succession] = []
        """The successions of the claims that this claim has followed, until they are
        settled."""
        self._settled = False
        self._waiting: dict[Waiting, None] = {}

    def follow(self, before: "Succession") -> None:
        """Settle ``before`` when this claim has a tunnel, or never will."""
        self._before.append(before)

    def opened(self) -> None:
        """The claim has a tunnel: let the visitors of the one before go on."""
        followed, self._before = self._before, []
        for before in followed:
            before.settle()

    def settle(self) -> None:
        """Stop the waiting: let all visitors look again. Idempotent."""
        self._settled = True
        for waiting in list(self._waiting):
            waiting.settled()
        self.opened()

    def wait(self, deadline: Deadline, settled: Callable[[], None], in_vain: Callable[[], None]) -> "Waiting | None":
        """Call ``settled()`` when this is settled, or ``in_vain()`` at the deadline.

        Returns None if it is settled already, and else the wait, which can be
        cancelled.
        """
        if self._settled:
            settled()
            return None
        waiting = Waiting(self, deadline, settled, in_vain)
        self._waiting[waiting] = None
        return waiting

    def forget(self, waiting: "Waiting") -> None:
        """Remove ``waiting``."""
        self._waiting.pop(waiting, None)


class Waiting:
    """A visitor that waits.

    One of ``settled()`` and ``in_vain()`` is called, unless cancelled.
    """

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
        """Stop waiting, because the succession is settled."""
        self.cancel()
        self._settled()

    def cancel(self) -> None:
        """Stop waiting. Idempotent."""
        self._timer.close()
        self._succession.forget(self)

    def _expired(self) -> None:
        self.cancel()
        self._in_vain()
