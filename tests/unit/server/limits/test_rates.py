"""localtunnel.server.limits.rates: token buckets under a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import TooManyRequests
from localtunnel.server.limits.rates import BURST, LONGEST_DELAY, Bucket, Rate, bucket, too_many

NOW = 1000.0


def taken(tokens: Bucket, tries: int, now: float) -> int:
    return sum(tokens.take(now) == 0 for _ in range(tries))


def test_no_rate_is_no_bucket() -> None:
    assert bucket(0) is None
    assert bucket(0.5) is not None


@pytest.mark.parametrize("per_second", [0.01, 1, 8, 1024])
def test_a_burst_passes_and_then_the_rate_holds(per_second: float) -> None:
    tokens = Bucket(Rate(per_second))
    burst = max(1, int(per_second * BURST))
    assert taken(tokens, burst + 100, NOW) == burst
    seconds = 64 / per_second
    later = [NOW + step * seconds / 640 for step in range(1, 641)]
    assert 63 <= sum(taken(tokens, 1, now) for now in later) <= 64


def test_it_says_how_long_to_wait_and_not_a_moment_more() -> None:
    tokens = Bucket(Rate(8))
    assert taken(tokens, 40, NOW) == 40
    wait = tokens.take(NOW)
    assert wait == pytest.approx(1 / 8)
    assert tokens.take(NOW + wait / 2) == pytest.approx(wait / 2)
    assert tokens.take(NOW + wait) == 0
    assert tokens.take(NOW + wait) > 0


def test_what_is_refused_costs_no_token() -> None:
    tokens = Bucket(Rate(1))
    taken(tokens, 5, NOW)
    assert taken(tokens, 1000, NOW) == 0
    assert taken(tokens, 10, NOW + 2) == 2


def test_a_bucket_never_holds_more_than_a_burst() -> None:
    tokens = Bucket(Rate(8))
    taken(tokens, 40, NOW)
    assert taken(tokens, 1000, NOW + 3600) == 40


def test_reserving_serves_in_turn_then_refuses() -> None:
    tokens = Bucket(Rate(8))
    delays = [tokens.reserve(NOW) for _ in range(40 + 16)]
    assert delays == pytest.approx([0.0] * 40 + [number / 8 for number in range(1, 17)])
    assert delays[-1] == LONGEST_DELAY
    for _ in range(3):
        with pytest.raises(TooManyRequests) as caught:
            tokens.reserve(NOW)
        assert caught.value.retry_after == 1
        assert str(caught.value) == "There are too many requests to this tunnel; try again in 1 second."
    # What was refused has not lengthened the line.
    assert tokens.reserve(NOW + 1 / 8) == LONGEST_DELAY


def test_retry_after_is_when_there_is_room_in_line() -> None:
    tokens = Bucket(Rate(0.1))
    assert tokens.reserve(NOW) == 0
    with pytest.raises(TooManyRequests) as caught:
        tokens.reserve(NOW + 1.5)
    assert caught.value.retry_after == 7
    assert tokens.reserve(NOW + 1.5 + 7) == 1.5


@pytest.mark.parametrize(
    ("wait", "seconds", "words"), [(0.001, 1, "1 second"), (1.0, 1, "1 second"), (1.2, 2, "2 seconds")]
)
def test_the_error_says_when_to_come_back(wait: float, seconds: int, words: str) -> None:
    error = too_many("visits", wait)
    assert (error.status, error.code, error.retry_after) == (429, "too_many_requests", seconds)
    assert str(error) == f"There are too many visits; try again in {words}."


@given(st.floats(0.01, 10_000), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_never_more_than_the_rate_allows(per_second: float, gaps: list[float]) -> None:
    tokens = Bucket(Rate(per_second))
    now, passed = NOW, 0
    for gap in gaps:
        now += gap
        passed += tokens.take(now) == 0
    assert passed <= max(1, per_second * BURST) + per_second * (now - NOW) + 1
