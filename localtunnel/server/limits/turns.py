"""Turns: a tunnel that is flooded does not make its neighbours wait for everything that it has to do.

The hub serves whatever is ready before it looks for more, so that a tunnel with a hundred requests at hand would come
a hundred times before its neighbour comes once. While more than one tunnel has visitors, each may therefore begin
QUANTUM requests in one turn of the hub; the others wait in line for the next turn, first come, first served. No time
is left unused by that: the next turn comes as soon as the others have had theirs. A tunnel by itself is never held.
"""

from collections import deque
from collections.abc import Callable

QUANTUM = 1
"""Requests that a tunnel begins in one turn of the hub. With 64 visitors at one tunnel, a request of its neighbour took
2.4 ms without turns, 1.3 with 4 and 0.7 with 1 (0.4 without the flood), and the flooded tunnel was not slower: coming
round costs a few microseconds, a request more than 50."""

SHARED_FOR = 0.25
"""Seconds for which the hub counts as shared after two tunnels have had requests one after the other: a neighbour with
a few visitors a second is protected, and one that has fallen silent costs nothing."""

Start = Callable[[], None]


class TunnelTurn:
    """What one tunnel has begun in this turn."""

    __slots__ = ("begun", "turn")

    def __init__(self) -> None:
        self.turn = -1.0
        self.begun = 0


class Turns:
    """Begins requests of all tunnels, each in its turn.

    ``next_turn(callback)`` has to call back once, from the hub, after it has looked for what else is ready. A timer
    of 0 seconds does; ``run_callback`` does not, since it would come again before the hub looks.
    """

    def __init__(self, next_turn: Callable[[Start], None]) -> None:
        self._next_turn = next_turn
        self._waiting: dict[TunnelTurn, deque[Start]] = {}
        self._last: TunnelTurn | None = None
        self._shared_until = 0.0

    def begin(self, tunnel: TunnelTurn, start: Start, now: float) -> None:
        """Call ``start`` at once, or in a later turn. ``now`` is the hub's own time, which changes with every turn.

        ``start`` must not raise, and its visitor may have gone when it is called. A visitor has one request in line at
        most.
        """
        if tunnel is not self._last:
            if self._last is not None:
                self._shared_until = now + SHARED_FOR
            self._last = tunnel
        if tunnel in self._waiting:
            self._waiting[tunnel].append(start)
        elif now >= self._shared_until or self._may_begin(tunnel, now):
            start()
        else:
            self._waiting[tunnel] = deque((start,))
            if len(self._waiting) == 1:
                self._next_turn(self._serve)

    def _may_begin(self, tunnel: TunnelTurn, now: float) -> bool:
        if tunnel.turn != now:
            tunnel.turn = now
            tunnel.begun = 0
        tunnel.begun += 1
        return tunnel.begun <= QUANTUM

    def _serve(self) -> None:
        """Let every tunnel that waits begin its next requests."""
        for tunnel, waiting in list(self._waiting.items()):
            # What these begin in their turn waits behind those that are in line already.
            for _ in range(min(QUANTUM, len(waiting))):
                waiting.popleft()()
            if not waiting:
                del self._waiting[tunnel]
        if self._waiting:
            self._next_turn(self._serve)
