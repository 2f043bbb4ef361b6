"""localtunnel.client.sessions.round_trip: what is worth a word about the way to the server."""

import pytest
from harness.clock import Clock

from localtunnel.client.sessions.round_trip import RoundTrip


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told(clock):
    """Return what is told of measurements that come every five seconds."""
    trip = RoundTrip(clock)

    def measure(*seconds):
        words = []
        for each in seconds:
            words.append(trip.measured(each))
            clock.now += 5.0
        return [word for word in words if word is not None]

    return measure


def test_the_first_one_is_told(told):
    assert told(0.042) == [0.042]


def test_a_network_that_jitters_is_not(told):
    assert told(0.040, *[0.010, 0.120] * 500) == [0.040]


def test_what_nobody_would_notice_is_not(told):
    assert told(0.0002, *[0.004] * 1000) == [0.0002]


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.3), (0.3, 0.02)])
def test_a_change_that_lasts_is_told_and_then_no_more(told, before, after):
    told(before, *[before] * 20)
    words = told(*[after] * 1000)
    assert 1 <= len(words) <= 4
    assert words == sorted(words, reverse=after < before)
    assert words[-1] < 2 * after
    assert words[-1] > after / 2


def test_a_change_is_told_once_a_minute_at_most(told):
    words = told(0.02, *[0.3] * 11)
    assert words == [0.02]
