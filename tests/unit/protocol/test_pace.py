"""localtunnel.protocol.pace: how many messages a peer may send at once, and how many on average."""

import pytest

from localtunnel.errors import Flooded
from localtunnel.protocol.limits import (
    HEARTBEAT_BOUNDS,
    HEARTBEAT_INTERVAL,
    MESSAGE_BURST,
    MESSAGE_RATE,
    MESSAGES_PER_HEARTBEAT,
    MISSED_HEARTBEATS,
)
from localtunnel.protocol.pace import Pace

INTERVALS = [HEARTBEAT_BOUNDS[0], 0.2, 0.5, 1.0, HEARTBEAT_INTERVAL, HEARTBEAT_BOUNDS[1]]
NOW = 1234.5


def count_at_once(pace: Pace, now: float, most: int = 10_000) -> int:
    """Return how many messages pass at ``now``."""
    for counted in range(most):
        try:
            pace.count(now)
        except Flooded:
            return counted
    raise AssertionError(f"{most} messages have passed")


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_burst_passes_to_its_last_message_and_no_further(interval: float) -> None:
    pace = Pace(interval)
    assert count_at_once(pace, NOW) == MESSAGE_BURST
    assert count_at_once(pace, NOW) == 0


@pytest.mark.parametrize("interval", INTERVALS)
def test_what_a_burst_has_used_up_comes_back_at_the_rate(interval: float) -> None:
    pace = Pace(interval)
    rate = max(MESSAGE_RATE, MESSAGES_PER_HEARTBEAT / interval)
    count_at_once(pace, NOW)
    assert count_at_once(pace, NOW + 10 / rate) == 10
    assert count_at_once(pace, NOW + 10 / rate + 3600) == MESSAGE_BURST


@pytest.mark.parametrize("interval", INTERVALS)
def test_heartbeats_that_were_late_never_cut_a_peer_that_keeps_to_the_interval(interval: float) -> None:
    """The network holds everything back for as long as a peer may be silent, again and again.

    In each interval there is a ping, a pong, and the two messages that renew a pool.
    """
    pace = Pace(interval)
    for held in range(1000):
        for _ in range(4 * MISSED_HEARTBEATS):
            pace.count(NOW + held * interval * MISSED_HEARTBEATS)


def test_a_peer_that_says_more_than_the_rate_is_cut_however_finely_that_is_spread() -> None:
    pace = Pace(HEARTBEAT_INTERVAL)
    with pytest.raises(Flooded, match=r"32 at once are allowed, and 8 a second"):
        for number in range(1000):
            pace.count(NOW + number / (MESSAGE_RATE * 1.25))
    pace = Pace(HEARTBEAT_INTERVAL)
    for number in range(1000):
        pace.count(NOW + number / MESSAGE_RATE)
