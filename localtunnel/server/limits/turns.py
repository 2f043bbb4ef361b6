"""Turns: a flooded tunnel does not make its neighbours wait for all of its requests.

The hub serves everything that is ready before it looks for more. A tunnel with a
hundred requests ready would therefore be served a hundred times before its neighbour is
served once. While more than one tunnel has visitors, each may begin QUANTUM requests in
one turn of the hub. The others wait in line for the next turn, which comes as soon as
the other tunnels have had theirs, so no time is lost. A tunnel by itself is never held
back.
"""

from collections import deque
from collections.abc import Callable

QUANTUM = 1
"""Requests that a tunnel begins in one turn of the hub. With 64 visitors at one tunnel,
a request of its neighbour took 2.4 ms without turns, 1.3 with 4 and 0.7 with 1 (0.4
without the flood). The flooded tunnel was not slower: a turn costs a few microseconds,
a request more than 50."""

SHARED_FOR = 0.25
"""Seconds for which the hub counts as shared after requests of two tunnels in a row.
That protects a neighbour with a few visitors per second, and one that has fallen silent
costs nothing."""

Start = Callable[[], None]


class TunnelTurn:
    """Counts the requests that one tunnel has begun in this turn."""

    __slots__ = ("begun", "turn")

    def __init__(self) -> None:
        self.turn = -1.0
        self.begun = 0


class Turns:
    """Begins the requests of all tunnels, each in its turn.

    ``next_turn(callback)`` must call back once, from the hub, after the hub has looked
    for ready sockets. A timer of 0 seconds does so; ``run_callback`` comes before that.
    """

    def __init__(self, next_turn: Callable[[Start], None]) -> None:
        self._next_turn = next_turn
        self._waiting: dict[TunnelTurn, deque[Start]] = {}
        self._last: TunnelTurn | None = None
        self._shared_until = 0.0

    def begin(self, tunnel: TunnelTurn, start: Start, now: float) -> None:
        """Call ``start`` now or in a later turn.

        ``now`` is the hub's time, which changes every turn. ``start`` must not raise;
        its visitor may have disconnected by then. A visitor has at most one request in
        line.
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
        """Let each waiting tunnel begin its next requests."""
        for tunnel, waiting in list(self._waiting.items()):
            # Requests that are added meanwhile go behind those that are in line
            # already.
            for _ in range(min(QUANTUM, len(waiting))):
                waiting.popleft()()
            if not waiting:
                del self._waiting[tunnel]
        if self._waiting:
            self._next_turn(self._serve)
