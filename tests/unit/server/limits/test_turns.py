"""localtunnel.server.limits.turns: who begins when, with turns that come when the test says so."""

import gevent

from localtunnel.server.limits.turns import QUANTUM, SHARED_FOR, TunnelTurn, Turns


class Hub:
    """Turns whose next turn is the test's to call; ``begun`` has the names of what was begun, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.next: list = []
        self.turns = Turns(self.next.append)
        self.begun: list[str] = []

    def begin(self, line: TunnelTurn, name: str) -> None:
        self.turns.begin(line, lambda: self.begun.append(name), self.now)

    def turn(self) -> list[str]:
        """Let the next turn come, and return what it begins."""
        self.now += 0.001
        callbacks, self.next[:] = list(self.next), []
        assert len(callbacks) <= 1
        before = len(self.begun)
        for callback in callbacks:
            callback()
        return self.begun[before:]


def shared(hub: Hub) -> tuple[TunnelTurn, TunnelTurn]:
    """Two tunnels that have both had a visitor just now."""
    flooded, neighbour = TunnelTurn(), TunnelTurn()
    hub.begin(flooded, "f")
    hub.begin(neighbour, "n")
    assert hub.begun == ["f", "n"]
    hub.begun.clear()
    hub.turn()
    return flooded, neighbour


def test_a_tunnel_by_itself_is_never_held() -> None:
    hub, line = Hub(), TunnelTurn()
    for number in range(1000):
        hub.begin(line, str(number))
    assert len(hub.begun) == 1000
    assert not hub.next


def test_a_flood_takes_turns_and_the_neighbour_does_not_wait() -> None:
    hub = Hub()
    flooded, neighbour = shared(hub)
    names = [f"f{number}" for number in range(3 * QUANTUM)]
    for name in names:
        hub.begin(flooded, name)
    hub.begin(neighbour, "n")
    assert hub.begun == [*names[:QUANTUM], "n"]
    assert hub.turn() == names[QUANTUM : 2 * QUANTUM]
    hub.begin(neighbour, "again")
    assert hub.begun[-1] == "again"
    assert hub.turn() == names[2 * QUANTUM :]
    # The line is empty, and no further turn is asked for.
    assert not hub.next


def test_who_comes_later_does_not_overtake() -> None:
    hub = Hub()
    flooded, _ = shared(hub)
    old = [f"old{number}" for number in range(2 * QUANTUM)]
    for name in old:
        hub.begin(flooded, name)
    assert hub.begun == old[:QUANTUM]
    hub.now += 0.001
    hub.begin(flooded, "new")
    assert hub.turn() == old[QUANTUM:]
    assert hub.turn() == ["new"]


def test_two_floods_have_the_same_share() -> None:
    hub = Hub()
    lines = shared(hub)
    for _ in range(5 * QUANTUM):
        for line, name in zip(lines, "ab", strict=True):
            hub.begin(line, name)
    for _ in range(4):
        begun = hub.turn()
        assert begun.count("a") == begun.count("b") == QUANTUM
    assert not hub.next


def test_what_begins_in_its_turn_waits_for_the_next_if_it_comes_again() -> None:
    """A visitor that is answered at once and asks again must not keep the turn for ever."""
    hub = Hub()
    flooded, _ = shared(hub)
    for _ in range(QUANTUM):
        hub.begin(flooded, "first")

    def again() -> None:
        hub.begun.append("again")
        hub.turns.begin(flooded, again, hub.now)

    hub.turns.begin(flooded, again, hub.now)
    for _ in range(10):
        assert hub.turn() == ["again"]


def test_the_hold_ends_when_the_neighbour_has_fallen_silent() -> None:
    hub = Hub()
    flooded, _ = shared(hub)
    hub.begin(flooded, "last from another tunnel")
    hub.now += SHARED_FOR
    hub.begun.clear()
    for _ in range(100):
        hub.begin(flooded, "f")
    assert len(hub.begun) == 100


def test_a_timer_of_nothing_is_a_next_turn() -> None:
    """What the hub is to be asked for: a callback after it has looked for what else is ready, again and again."""
    loop = gevent.get_hub().loop
    timer = loop.timer(0)
    turns = Turns(lambda callback: timer.start(callback))
    flooded, neighbour = TunnelTurn(), TunnelTurn()
    begun: list[str] = []
    turns.begin(flooded, lambda: begun.append("f"), loop.now())
    turns.begin(neighbour, lambda: begun.append("n"), loop.now())
    now = loop.now()
    for _ in range(10 * QUANTUM):
        turns.begin(flooded, lambda: begun.append("f"), now)
    assert begun.count("f") <= QUANTUM + 1
    with gevent.Timeout(10):
        while len(begun) < 10 * QUANTUM + 2:
            gevent.sleep(0)
    timer.close()
