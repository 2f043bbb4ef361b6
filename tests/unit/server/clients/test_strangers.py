"""localtunnel.server.clients.strangers: places for connections that have not said who
they are, and which of them yield.
"""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.server.clients.strangers import Strangers
from localtunnel.server.config import QuotaLimits

KNOWN = "192.0.2.1"


class Places:
    """A house of strangers, in which it is seen who had to go."""

    def __init__(self, most=8, most_of_one=0, known=(KNOWN,)):
        self.gone = []
        self.strangers = Strangers(QuotaLimits(strangers=most, strangers_per_address=most_of_one), known.__contains__)
        self._numbers = 0

    def take(self, *hosts):
        """Let one connection come from each of ``hosts``; returns their places."""
        return [self._take(host) for host in hosts]

    def _take(self, host):
        self._numbers += 1
        name = f"{host}#{self._numbers}"
        return self.strangers.take(host, lambda: self.gone.append(name))


def test_as_long_as_there_is_room_nobody_has_to_go():
    places = Places(known=("a", "b", "c"))
    places.take(*"abcabcab")
    assert (len(places.strangers), places.gone) == (8, [])


def test_the_oldest_of_whoever_has_most_gives_way():
    places = Places(most=6, known=())
    places.take("a", "b", "b", "c", "b")
    places.take("new")
    assert places.gone == ["b#2"]
    places.take("new")
    assert places.gone == ["b#2", "b#3"]


def test_where_each_has_one_the_oldest_gives_way():
    places = Places(most=3, known=())
    places.take("a", "b", "c", "d", "e")
    assert places.gone == ["a#1", "b#2"]


def test_whoever_has_said_what_it_wants_needs_no_place_any_more():
    places = Places(most=2, known=())
    first, _ = places.take("a", "b")
    first.release()
    first.release()
    places.take("c")
    assert places.gone == []


def test_one_address_has_so_many_and_its_own_oldest_gives_way():
    places = Places(most_of_one=2, known=())
    places.take("a", "b", "a", "a", "b")
    assert places.gone == ["a#1"]


def test_the_addresses_of_one_customer_are_one():
    places = Places(most_of_one=1, known=())
    places.take("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    assert places.gone == ["2001:db8::1#1"]


def test_a_share_is_kept_for_addresses_that_are_known():
    places = Places()
    places.take(*"abcdef", "g")
    assert places.gone == ["a#1"], "two of eight are kept"
    places.take(KNOWN, KNOWN)
    assert places.gone == ["a#1"]
    places.take(KNOWN)
    assert places.gone == ["a#1", f"{KNOWN}#8"], "known addresses have their share, and yield to each other"


def test_what_is_kept_may_be_used_and_more_until_the_others_come():
    places = Places()
    places.take(*[KNOWN] * 8)
    assert places.gone == []
    places.take(*"abcdefg")
    assert places.gone == [f"{KNOWN}#{number}" for number in range(1, 7)] + ["a#9"]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_few_places(most):
    places = Places(most=most)
    places.take("a", KNOWN, "b", KNOWN, KNOWN, "c")
    assert len(places.strangers) == most
    assert len(places.gone) == 6 - most


def test_no_limit():
    places = Places(most=0)
    places.take(*["a", KNOWN] * 100)
    assert (len(places.strangers), places.gone) == (200, [])


def test_the_operator_is_told_now_and_then(caplog):
    places = Places(most=1, known=())
    with caplog.at_level(logging.WARNING):
        places.take(*"abcdefgh")
    assert [record.message for record in caplog.records] == [
        "too many connections without a request, the oldest are closed"
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", KNOWN]), st.integers(0, 30)), max_size=60),
    st.integers(1, 9),
    st.integers(0, 4),
)
def test_whatever_comes_and_goes_the_limits_hold_and_nothing_is_remembered(steps, most, most_of_one):
    places = Places(most=most, most_of_one=most_of_one)
    taken = []
    for host, number in steps:
        if number < len(taken):
            taken.pop(number).release()
        else:
            taken += places.take(host)
        assert len(places.strangers) <= most
        groups = places.strangers._groups
        assert all(len(same) <= (most_of_one or most) for same in groups.values())
        unknown = sum(len(same) for host, same in groups.items() if host != KNOWN)
        assert unknown <= most - most // 4
    for place in taken:
        place.release()
    assert (len(places.strangers), places.strangers._groups) == (0, {})
