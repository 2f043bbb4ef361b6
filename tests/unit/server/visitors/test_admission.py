"""localtunnel.server.visitors.admission: who gets a place, who is refused, and who
gives way, with a clock of the test's own.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from localtunnel.errors import ServerFull, TooManyRequests
from localtunnel.networks import Networks
from localtunnel.server.config import Limits
from localtunnel.server.limits.rates import BURST
from localtunnel.server.visitors.admission import ANSWERS_PER_SECOND, LOOKED_AT, MAX_REMEMBERED, Admission, VisitorPlace

NOW = 1000.0
A, B, C = "203.0.113.1", "203.0.113.2", "203.0.113.3"
NONE = {"visitors": 0, "address_visitors": 0, "address_connection_rate": 0, "address_request_rate": 0}


class Visitor:
    """A connection that has a place, as the frontend would hold it."""

    def __init__(self, name: str = "", *, idle: bool = True) -> None:
        self.name = name
        self.idle = idle
        self.half_closed = False
        self.closed = False
        self.place: VisitorPlace | None = None

    def close_idle(self) -> bool:
        if self.idle and not self.closed:
            self.closed = True
            assert self.place is not None
            self.place.leave()
        return self.closed

    def close_half_closed(self) -> bool:
        self.idle = self.idle or self.half_closed
        return self.close_idle()


class House:
    """An admission with few limits, and whoever has entered."""

    def __init__(self, exempt: tuple[str, ...] = (), **limits: float) -> None:
        self.admission = Admission(Limits(**{**NONE, **limits}), Networks.parse(exempt))
        self.visitors: list[Visitor] = []

    def enter(self, host: str, *, idle: bool = True, now: float = NOW) -> Visitor:
        visitor = Visitor(host, idle=idle)
        visitor.place = self.admission.enter(host, visitor, now)
        self.visitors.append(visitor)
        return visitor

    def enter_many(self, host: str, number: int, *, idle: bool = True) -> list[Visitor]:
        return [self.enter(host, idle=idle) for _ in range(number)]

    def open(self, host: str) -> int:
        return sum(visitor.name == host and not visitor.closed for visitor in self.visitors)


def leave(visitor: Visitor) -> None:
    visitor.closed = True
    assert visitor.place is not None
    visitor.place.leave()


def test_without_limits_everybody_enters() -> None:
    house = House()
    visitors = house.enter_many(A, 1000)
    for visitor in visitors:
        visitor.place.request(NOW)
    assert house.admission.open == 1000
    for visitor in visitors:
        leave(visitor)
    assert house.admission.open == 0


def test_leaving_twice_counts_once() -> None:
    house = House()
    first, _ = house.enter_many(A, 2)
    first.place.leave()
    first.place.leave()
    assert house.admission.open == 1
    # After that the place means nothing.
    first.place.request(NOW)
    first.place.leave()
    assert house.admission.open == 1


# One address.


def test_an_address_has_so_many_connections_and_others_have_theirs() -> None:
    house = House(address_visitors=3)
    visitors = house.enter_many(A, 3)
    with pytest.raises(TooManyRequests) as caught:
        house.enter(A)
    assert str(caught.value) == "There are too many connections from your address; try again in 1 second."
    assert house.admission.open == 3
    house.enter_many(B, 3)
    leave(visitors[1])
    house.enter(A)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("203.0.113.1", "203.0.113.1", True),
        ("203.0.113.1", "203.0.113.2", False),
        ("::ffff:203.0.113.1", "203.0.113.1", True),
    ],
)
def test_an_ipv6_address_is_a_network_of_64_bits(first: str, second: str, same: bool) -> None:
    house = House(address_visitors=1)
    house.enter(first)
    if same:
        with pytest.raises(TooManyRequests):
            house.enter(second)
    else:
        house.enter(second)


def test_new_connections_of_an_address_have_a_rate() -> None:
    house = House(address_connection_rate=2)
    burst = int(2 * BURST)
    for visitor in house.enter_many(A, burst):
        leave(visitor)
    with pytest.raises(TooManyRequests) as caught:
        house.enter(A)
    assert str(caught.value) == "There are too many new connections from your address; try again in 1 second."
    house.enter(B)
    house.enter(A, now=NOW + 0.5)
    with pytest.raises(TooManyRequests):
        house.enter(A, now=NOW + 0.5)


def test_requests_of_an_address_have_a_rate_over_all_its_connections() -> None:
    house = House(address_request_rate=2)
    first, second = house.enter_many(A, 2)
    other = house.enter(B)
    for number in range(int(2 * BURST)):
        (first, second)[number % 2].place.request(NOW)
    for visitor in (first, second):
        with pytest.raises(TooManyRequests) as caught:
            visitor.place.request(NOW)
        assert caught.value.retry_after == 1
        assert str(caught.value) == "There are too many requests from your address; try again in 1 second."
    other.place.request(NOW)
    # Connecting again buys nothing.
    leave(first)
    leave(second)
    with pytest.raises(TooManyRequests):
        house.enter(A).place.request(NOW)


def test_requests_by_way_of_a_proxy_count_for_whom_it_names() -> None:
    house = House(exempt=(C,), address_request_rate=2)
    proxy = house.enter(C)
    for _ in range(100):
        proxy.place.request(NOW)
        house.admission.request(C, NOW)
    for _ in range(int(2 * BURST)):
        house.admission.request(A, NOW)
    with pytest.raises(TooManyRequests):
        house.admission.request(A, NOW)
    house.admission.request(B, NOW)
    # It is the same account as that of the address's own connections.
    with pytest.raises(TooManyRequests):
        house.enter(A).place.request(NOW)
    house.admission.request(A, NOW + 0.5)


def test_the_exempt_have_no_limits_of_their_own() -> None:
    house = House(exempt=(A, "2001:db8::1"), address_visitors=1, address_connection_rate=1, address_request_rate=1)
    for host in (A, "2001:db8::1"):
        for visitor in house.enter_many(host, 50):
            visitor.place.request(NOW)
    # Only that one of its network.
    house.enter("2001:db8::2")
    with pytest.raises(TooManyRequests):
        house.enter("2001:db8::2")
    assert house.admission.open == 101


def test_only_a_few_of_the_refused_are_answered() -> None:
    house = House()
    answers = sum(house.admission.may_answer(NOW) for _ in range(10_000))
    assert answers == ANSWERS_PER_SECOND * BURST
    assert house.admission.may_answer(NOW + 1)


# Everybody together.


def test_when_it_is_full_of_busy_visitors_nobody_enters() -> None:
    house = House(visitors=10)
    visitors = house.enter_many(A, 10, idle=False)
    with pytest.raises(ServerFull) as caught:
        house.enter(B)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert not any(visitor.closed for visitor in visitors)
    leave(visitors[0])
    house.enter(B)


def test_a_newcomer_gets_the_oldest_idle_place_of_who_holds_most() -> None:
    house = House(visitors=10)
    house.enter_many(B, 3)
    visitors = house.enter_many(A, 7)
    house.enter(C)
    assert [visitor.closed for visitor in visitors] == [True] + [False] * 6
    assert (house.open(A), house.open(B), house.open(C), house.admission.open) == (6, 3, 1, 10)


def test_newcomers_take_until_all_are_equal_and_no_further() -> None:
    house = House(visitors=12)
    house.enter_many(A, 12)
    for _ in range(8):
        house.enter(B)
    # Beyond its half, B only replaces connections of its own.
    assert (house.open(A), house.open(B)) == (6, 6)
    for number in range(10):
        house.enter(f"198.51.100.{number}")
    assert (house.open(A), house.open(B), house.admission.open) == (1, 1, 12)
    # Everybody has one by now, and nobody more than the newcomer would have.
    with pytest.raises(ServerFull):
        house.enter(C)


def test_who_has_less_than_a_share_loses_nothing_to_one_who_has_more() -> None:
    house = House(visitors=12)
    small = house.enter_many(B, 2)
    house.enter_many(A, 10, idle=False)
    with pytest.raises(ServerFull):
        house.enter(A)
    with pytest.raises(ServerFull):
        house.enter(C)
    assert not any(visitor.closed for visitor in small)


def test_who_is_alone_replaces_its_own_idle_ones() -> None:
    house = House(visitors=LOOKED_AT)
    house.enter_many(A, LOOKED_AT - 1, idle=False)
    idle = house.enter(A)
    house.enter(A, idle=False)
    assert idle.closed
    with pytest.raises(ServerFull):
        house.enter(A)


def test_a_request_that_is_served_is_never_cut() -> None:
    house = House(visitors=20)
    busy = house.enter_many(A, 10, idle=False)
    idle = house.enter_many(A, 10)
    entered = 0
    for number in range(30):
        try:
            house.enter(f"198.51.100.{number}", idle=False)
        except ServerFull:
            continue
        entered += 1
    assert not any(visitor.closed for visitor in busy)
    assert entered == 10
    assert all(visitor.closed for visitor in idle)


def test_those_who_hold_most_but_are_busy_do_not_protect_the_next() -> None:
    """Only so many are looked at for each newcomer; the next newcomer looks at others."""
    house = House(visitors=40)
    for number in range(LOOKED_AT):
        house.enter_many(f"198.51.100.{number}", 7, idle=False)
    house.enter_many(A, 7)
    house.enter_many(B, 5)
    with pytest.raises(ServerFull):
        house.enter(C)
    house.enter(C)
    assert (house.open(A), house.open(B)) == (6, 5)


def test_a_newcomer_is_found_a_place_within_a_few_tries_however_many_are_busy() -> None:
    """Each try looks at few, and the next one goes on where it ended."""
    house = House(visitors=100)
    house.enter_many(A, 50, idle=False)
    house.enter_many(A, 1)
    house.enter_many(B, 49, idle=False)
    for tries in range(1, 100):
        try:
            house.enter(C)
        except ServerFull:
            continue
        assert tries <= 51 // LOOKED_AT + 1
        return
    pytest.fail("Nobody has given way.")


def test_what_is_remembered_is_bounded() -> None:
    house = House(address_connection_rate=1)
    for number in range(MAX_REMEMBERED + 100):
        leave(house.enter(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(house.admission._remembered) == MAX_REMEMBERED
    assert not house.admission._present
    assert not house.admission._by_number


def test_who_goes_on_asking_is_not_forgotten() -> None:
    house = House(address_request_rate=1)
    for _ in range(int(BURST)):
        house.admission.request(A, NOW)
    for number in range(MAX_REMEMBERED + 100):
        house.admission.request(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", NOW)
        if number % 1000 == 0:
            with pytest.raises(TooManyRequests):
                house.admission.request(A, NOW)


# Whatever happens in whatever order.

NAMES = {A: A, B: B, C: C, "2001:db8::1": "2001:db8::", "2001:db8::2": "2001:db8::", "127.0.0.1": "127.0.0.1"}
HOSTS = st.sampled_from(sorted(NAMES))
TOTAL, EACH = 8, 4


class AnyOrder(RuleBasedStateMachine):
    """The counts are right and the limits hold, whoever enters, leaves or gives way.

    Visitors have the name under which they are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.house = House(exempt=("127.0.0.1",), visitors=TOTAL, address_visitors=EACH)
        self.inside: list[Visitor] = []

    @rule(host=HOSTS, idle=st.booleans())
    def enter(self, host: str, idle: bool) -> None:
        held = {name: self.held(name) for name in NAMES.values()}
        try:
            visitor = self.house.enter(host, idle=idle)
        except (ServerFull, TooManyRequests):
            assert not any(visitor.closed for visitor in self.inside)
            return
        visitor.name = NAMES[host]
        for victim in self.inside:
            if victim.closed:
                assert victim.idle
                assert victim.name == visitor.name or held[victim.name] > held[visitor.name] + 1
        self.inside = [visitor for visitor in self.inside if not visitor.closed] + [visitor]

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        visitor = data.draw(st.sampled_from(self.inside))
        self.inside.remove(visitor)
        leave(visitor)

    def held(self, name: str) -> int:
        return sum(visitor.name == name for visitor in self.inside)

    @invariant()
    def everything_is_counted(self) -> None:
        admission = self.house.admission
        assert admission.open == len(self.inside) <= TOTAL
        assert sum(len(address.places) for address in admission._present.values()) == admission.open
        for number, addresses in admission._by_number.items():
            assert addresses
            assert all(len(address.places) == number for address in addresses)
        assert sum(map(len, admission._by_number.values())) == len(admission._present)
        assert not set(admission._present) & set(admission._remembered)
        for visitor in self.inside:
            assert visitor.name == "127.0.0.1" or self.held(visitor.name) <= EACH


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_any_order = AnyOrder.TestCase


# Descriptors.


def test_one_that_is_half_closed_gives_way_after_those_that_are_idle():
    house = House()
    busy, half_closed, idle = (house.enter(A, idle=name == "idle") for name in ("busy", "half closed", "idle"))
    half_closed.half_closed = True
    assert house.admission.give_way()
    assert (busy.closed, half_closed.closed, idle.closed) == (False, False, True)
    assert house.admission.give_way()
    assert (busy.closed, half_closed.closed) == (False, True)
    assert not house.admission.give_way()
    assert not busy.closed


def test_idle_connections_give_way_whoever_has_them_and_busy_ones_do_not() -> None:
    house = House(visitors=100)
    idle = [house.enter(A), house.enter(B)]
    busy = house.enter(C, idle=False)
    assert house.admission.give_way()
    assert house.admission.give_way()
    assert not house.admission.give_way()
    assert all(visitor.closed for visitor in idle)
    assert not busy.closed
    assert house.admission.open == 1


def test_a_visitor_with_a_descriptor_that_is_kept_for_clients_is_refused() -> None:
    admission = Admission(Limits(**NONE), Networks.parse(()), 10)
    admission.enter(A, Visitor(), NOW, 9)
    with pytest.raises(ServerFull):
        admission.enter(A, Visitor(), NOW, 10)
    assert admission.open == 1
