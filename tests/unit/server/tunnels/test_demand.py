"""How large a pool is: the pure rule, and one tunnel's demand with a clock of the test's own."""

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from harness import nothing_left_over, wait_until
from harness.clock import Clock
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.protocol.limits import (
    FIRST_CONCURRENCY,
    IDLE_CONCURRENCY,
    IDLE_TUNNEL,
    TOTAL_CONCURRENCY,
    TUNNEL_CONCURRENCY,
)
from localtunnel.server.tunnels import demand
from localtunnel.server.tunnels.demand import DECAY_AFTER, WINDOW, Announcing, Demand, Shares, next_size

CEILING = 256


class Tunnel:
    """A demand, and every size that it asked for."""

    def __init__(self, shares: Shares | None = None, clock: Callable[[], float] | None = None) -> None:
        self.clock: Any = clock or Clock()
        self.asked: list[int] = []
        self.demand = Demand(shares or Shares(CEILING, TOTAL_CONCURRENCY), self.asked.append, self.clock)

    @property
    def size(self) -> int:
        return self.demand.size

    def burst(self, visitors: int) -> None:
        for _ in range(visitors):
            self.demand.arrived()

    def calm(self, seconds: float = DECAY_AFTER) -> None:
        """Let ``seconds`` pass without a visitor, then look."""
        self.clock.now += seconds
        self.demand.tick()

    def rest(self, seconds: float) -> None:
        """Let ``seconds`` pass without a visitor, and have the owner look."""
        self.clock.now += seconds
        self.demand.look()


# The rule.


@pytest.mark.parametrize(
    ("size", "peak", "ceiling", "decay", "expected"),
    [
        (4, 0, 256, False, 4),
        (4, 4, 256, False, 4),
        (4, 5, 256, False, 6),
        (4, 64, 256, False, 80),
        (80, 64, 256, False, 80),
        (80, 81, 256, False, 101),
        (80, 300, 256, False, 256),
        (4, 64, 10, False, 10),
        (80, 0, 256, True, 60),
        (80, 40, 256, True, 60),
        (80, 56, 256, True, 70),
        (5, 0, 256, True, 4),
        (4, 0, 256, True, 4),
        (80, 0, 20, True, 20),
    ],
)
def test_the_rule(size: int, peak: int, ceiling: int, decay: bool, expected: int) -> None:
    assert next_size(size, peak, ceiling, decay=decay) == expected


sizes = st.integers(FIRST_CONCURRENCY, 2000)


@given(sizes, st.integers(0, 5000), sizes, st.booleans())
def test_every_size_is_within_its_bounds(size: int, peak: int, ceiling: int, decay: bool) -> None:
    assert FIRST_CONCURRENCY <= next_size(size, peak, ceiling, decay=decay) <= ceiling


@given(sizes, st.integers(1, 5000), sizes, st.booleans())
def test_a_burst_finds_room_the_next_time(size: int, burst: int, ceiling: int, decay: bool) -> None:
    after = next_size(size, size + burst, ceiling, decay=decay)
    assert after == ceiling or after >= (size + burst) * 5 // 4


@given(sizes, st.integers(0, 2000))
def test_decay_never_grows(size: int, peak: int) -> None:
    peak = min(peak, size)
    after = next_size(size, peak, 2000, decay=True)
    assert after <= size
    assert after >= peak


@given(sizes)
def test_without_visitors_every_pool_shrinks_to_the_first_size(size: int) -> None:
    steps = 0
    while size > FIRST_CONCURRENCY:
        smaller = next_size(size, 0, 2000, decay=True)
        assert smaller < size
        size, steps = smaller, steps + 1
    assert size == FIRST_CONCURRENCY
    assert steps <= 22


# One tunnel.


def test_a_tunnel_starts_small_and_says_nothing() -> None:
    tunnel = Tunnel()
    assert tunnel.size == FIRST_CONCURRENCY
    assert tunnel.asked == []


def test_visitors_within_the_pool_change_nothing() -> None:
    tunnel = Tunnel()
    tunnel.burst(FIRST_CONCURRENCY)
    assert tunnel.asked == []


def test_visitors_one_after_another_on_connections_that_come_back_change_nothing() -> None:
    tunnel = Tunnel()
    for _ in range(10 * FIRST_CONCURRENCY):
        tunnel.burst(1)
        tunnel.demand.came_back()
    assert tunnel.asked == []


def test_what_comes_back_is_there_for_a_part_of_the_next_burst_only() -> None:
    tunnel = Tunnel()
    tunnel.burst(FIRST_CONCURRENCY)
    for _ in range(2 * FIRST_CONCURRENCY):
        # More than have gone out in this window: the rest were counted in an earlier one.
        tunnel.demand.came_back()
    tunnel.burst(FIRST_CONCURRENCY + 1)
    assert tunnel.asked == [next_size(FIRST_CONCURRENCY, FIRST_CONCURRENCY + 1, CEILING, decay=False)]


@pytest.mark.parametrize("burst", [0, 64])
def test_a_tunnel_without_visitors_keeps_two_connections(burst: int) -> None:
    tunnel = Tunnel()
    tunnel.burst(burst)
    size = tunnel.size
    tunnel.rest(IDLE_TUNNEL - 1)
    assert tunnel.size == size
    tunnel.rest(1)
    tunnel.rest(IDLE_TUNNEL)
    tunnel.calm()
    assert tunnel.size == IDLE_CONCURRENCY
    assert tunnel.asked[-1:] == [IDLE_CONCURRENCY]


def test_a_visitor_on_a_connection_that_is_kept_is_a_visitor_too() -> None:
    tunnel = Tunnel()
    tunnel.clock.now += IDLE_TUNNEL
    tunnel.demand.visited = tunnel.clock.now - 1
    tunnel.rest(0)
    assert tunnel.size == FIRST_CONCURRENCY
    tunnel.rest(IDLE_TUNNEL)
    assert tunnel.size == IDLE_CONCURRENCY


def test_an_idle_tunnel_grows_with_its_next_visitor() -> None:
    tunnel = Tunnel()
    tunnel.rest(IDLE_TUNNEL)
    tunnel.burst(1)
    assert tunnel.asked == [IDLE_CONCURRENCY, FIRST_CONCURRENCY]
    tunnel.burst(64)
    assert tunnel.size >= 64


def test_an_idle_tunnel_gives_its_share_to_the_others() -> None:
    shares = Shares(100, 2 * FIRST_CONCURRENCY)
    idle = Tunnel(shares)
    idle.rest(IDLE_TUNNEL)
    other = Tunnel(shares)
    other.burst(64)
    assert other.size == 2 * FIRST_CONCURRENCY - IDLE_CONCURRENCY, "with the share that the idle one has given up"
    idle.burst(1)
    assert idle.size == FIRST_CONCURRENCY, "which it gets back whatever the others have"


def test_a_burst_grows_the_pool_at_once_and_the_next_one_fits() -> None:
    tunnel = Tunnel()
    tunnel.burst(64)
    assert 64 <= tunnel.size <= 80
    assert tunnel.asked == sorted(set(tunnel.asked))
    assert tunnel.asked[-1] == tunnel.size
    said = len(tunnel.asked)
    assert said < 20
    tunnel.clock.now += WINDOW
    tunnel.burst(64)
    assert len(tunnel.asked) == said


def test_visitors_of_different_windows_are_no_burst() -> None:
    tunnel = Tunnel()
    for _ in range(50):
        tunnel.burst(FIRST_CONCURRENCY)
        tunnel.clock.now += WINDOW
    assert tunnel.asked == []


def test_visitors_of_one_window_are_a_burst_however_they_are_spread() -> None:
    tunnel = Tunnel()
    for _ in range(8):
        tunnel.burst(1)
        tunnel.clock.now += WINDOW / 10
    assert tunnel.size >= 8


def test_a_pool_decays_after_a_calm_time_to_where_it_began() -> None:
    tunnel = Tunnel()
    tunnel.burst(64)
    grown = tunnel.size
    tunnel.calm(DECAY_AFTER * 0.9)
    assert tunnel.size == grown
    for _ in range(20):
        tunnel.calm()
    assert tunnel.size == FIRST_CONCURRENCY
    shrunk = tunnel.asked[tunnel.asked.index(grown) + 1 :]
    assert shrunk == sorted(set(shrunk), reverse=True)


def test_a_pool_shrinks_by_a_quarter_as_soon_as_it_was_calm_for_long_enough() -> None:
    """The burst itself does not count: it was before."""
    tunnel = Tunnel()
    tunnel.burst(64)
    grown = tunnel.size
    for expected in (grown * 3 // 4, grown * 3 // 4 * 3 // 4):
        tunnel.calm(DECAY_AFTER - 0.001)
        assert tunnel.size > expected
        tunnel.calm(0.001)
        assert tunnel.size == expected


def test_what_came_since_the_burst_counts() -> None:
    tunnel = Tunnel()
    tunnel.burst(64)
    grown = tunnel.size
    tunnel.clock.now += WINDOW
    tunnel.burst(grown * 3 // 4 - 1)
    tunnel.calm()
    assert grown * 3 // 4 < tunnel.size < grown


def test_a_shortage_of_descriptors_shrinks_every_pool_each_time_down_to_where_it_began() -> None:
    shares = Shares(CEILING, TOTAL_CONCURRENCY)
    tunnels = [Tunnel(shares) for _ in range(3)]
    for tunnel in tunnels[:2]:
        tunnel.burst(100)
    sizes = [tunnel.size for tunnel in tunnels]
    shares.ease()
    eased = [tunnel.size for tunnel in tunnels]
    assert [new < old for new, old in zip(eased, sizes, strict=True)] == [True, True, False]
    for _ in range(20):
        shares.ease()
    assert [tunnel.size for tunnel in tunnels] == [FIRST_CONCURRENCY] * 3
    assert len(shares.calm) == 0
    for tunnel in tunnels:
        tunnel.demand.close()


def test_the_time_is_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to look: one timer serves all pools, and is gone with the last of them."""
    monkeypatch.setattr(demand, "DECAY_AFTER", 0.02)
    with nothing_left_over():
        shares = Shares(CEILING, TOTAL_CONCURRENCY)
        tunnels = [Tunnel(shares, time.monotonic) for _ in range(3)]
        for tunnel in tunnels:
            tunnel.burst(16)
        wait_until(lambda: [tunnel.size for tunnel in tunnels] == [FIRST_CONCURRENCY] * 3)
        for tunnel in tunnels:
            tunnel.burst(16)
            tunnel.demand.close()


# Telling the client.


def test_a_size_is_told_once_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "GATHER", 0.1)
    monkeypatch.setattr(demand, "GATHER_LONGEST", 60.0)
    told: list[int] = []
    announcing = Announcing(4, told.append)
    for size in (6, 8, 11):
        announcing.changed(size)
    assert told == []
    wait_until(lambda: told)
    assert told == [11]
    announcing.changed(8)
    announcing.changed(11)
    announcing.changed(8)
    wait_until(lambda: len(told) > 1)
    assert told == [11, 8]
    announcing.close()


def test_a_burst_without_an_end_is_told_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "GATHER", 0.01)
    monkeypatch.setattr(demand, "GATHER_LONGEST", 0.1)
    told: list[int] = []
    announcing = Announcing(4, told.append)

    def grow() -> bool:
        announcing.changed(announcing._size + 1)
        return len(told) >= 2

    wait_until(grow)
    assert told == sorted(set(told))
    announcing.close()


def test_renewing_tells_the_latest_size_and_nothing_is_told_after_the_end() -> None:
    with nothing_left_over():
        told: list[int] = []
        announcing = Announcing(4, told.append)
        announcing.changed(6)
        announcing.renew()
        assert told == [0, 6]
        announcing.changed(8)
        announcing.close()
        announcing.close()
        gevent.sleep(3 * demand.GATHER)
        assert told == [0, 6]


def test_bursts_near_the_size_keep_it() -> None:
    tunnel = Tunnel()
    tunnel.burst(64)
    grown = tunnel.size
    for _ in range(20):
        tunnel.calm(DECAY_AFTER * 0.9)
        tunnel.burst(64)
    assert tunnel.size == grown


@pytest.mark.parametrize("burst", [4, 8, 16, 64])
def test_a_calm_time_never_grows_the_pool(burst: int) -> None:
    tunnel = Tunnel()
    tunnel.burst(burst)
    while tunnel.size > burst:
        tunnel.calm()
    tunnel.clock.now += WINDOW
    tunnel.burst(tunnel.size)
    before = tunnel.size
    tunnel.calm()
    assert tunnel.size <= before


def test_small_bursts_let_a_large_pool_decay_to_their_own_size() -> None:
    tunnel = Tunnel()
    tunnel.burst(64)
    for _ in range(40):
        tunnel.burst(16)
        tunnel.calm(DECAY_AFTER * 0.9)
    assert 16 <= tunnel.size <= 32


# Bounds.


def test_no_tunnel_grows_over_its_ceiling() -> None:
    tunnel = Tunnel(Shares(TUNNEL_CONCURRENCY, TOTAL_CONCURRENCY))
    tunnel.burst(5000)
    assert tunnel.size == TUNNEL_CONCURRENCY


def test_all_tunnels_together_stay_within_the_total() -> None:
    shares = Shares(100, 150)
    clock = Clock()
    first, second = Tunnel(shares, clock), Tunnel(shares, clock)
    first.burst(500)
    assert first.size == 100
    second.burst(500)
    assert first.size + second.size == 150
    assert shares.ceiling(second.size) == second.size


def test_a_tunnel_has_its_first_connections_even_where_the_total_is_used_up() -> None:
    shares = Shares(100, 100)
    clock = Clock()
    greedy, late = Tunnel(shares, clock), Tunnel(shares, clock)
    greedy.burst(500)
    assert greedy.size == 100 - FIRST_CONCURRENCY
    latest = Tunnel(shares, clock)
    for tunnel in (late, latest):
        tunnel.burst(500)
        assert tunnel.size == FIRST_CONCURRENCY


@pytest.mark.parametrize("how", ["closed", "decayed"])
def test_what_is_given_back_is_for_the_others(how: str) -> None:
    shares = Shares(100, 100)
    clock = Clock()
    first, second = Tunnel(shares, clock), Tunnel(shares, clock)
    first.burst(500)
    assert second.size == FIRST_CONCURRENCY
    if how == "closed":
        first.demand.close()
    else:
        for _ in range(20):
            first.calm()
    second.burst(500)
    assert second.size == 100 - first.size


def test_closing_twice_gives_back_once() -> None:
    shares = Shares(100, 50)
    tunnel = Tunnel(shares)
    tunnel.burst(20)
    tunnel.demand.close()
    tunnel.demand.close()
    assert shares.ceiling(0) == 50


def test_after_closing_nobody_is_asked_for_anything() -> None:
    shares = Shares(100, 50)
    tunnel = Tunnel(shares)
    tunnel.demand.close()
    tunnel.burst(20)
    tunnel.calm()
    assert tunnel.asked == []
    assert shares.ceiling(0) == 50


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300) | st.sampled_from(["calm", "close"])), max_size=30))
def test_the_total_holds_whatever_happens(events: list[tuple[int, int | str]]) -> None:
    shares = Shares(64, 100)
    clock = Clock()
    tunnels = [Tunnel(shares, clock) for _ in range(3)]
    for number, event in events:
        tunnel = tunnels[number]
        if event == "calm":
            tunnel.calm()
        elif event == "close":
            tunnel.demand.close()
        else:
            clock.now += WINDOW
            tunnel.burst(int(event))
        assert sum(each.size for each in tunnels) <= 100
        assert all(each.size <= 64 for each in tunnels)
    for tunnel in tunnels:
        tunnel.demand.close()
    assert shares.ceiling(36) == 64
    assert shares.ceiling(0) == 64
    shares.change(100)
    assert shares.ceiling(7) == 7
