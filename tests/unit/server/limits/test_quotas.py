"""localtunnel.server.limits.quotas: how much of one thing somebody may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import LimitReached
from localtunnel.networks import network_of
from localtunnel.server.config import QuotaLimits
from localtunnel.server.limits.quotas import Quota, make_quotas

HERE, THERE = "203.0.113.7", "198.51.100.9"


@pytest.mark.parametrize(
    ("limits", "second"),
    [({"per_address": 1}, (HERE, "b")), ({"per_owner": 1}, (THERE, "a")), ({"total": 1}, (THERE, "b"))],
)
def test_each_limit_holds_and_only_where_it_is_set(limits, second):
    quota = Quota("tunnels", **limits)
    place = quota.take(HERE, "a")
    with pytest.raises(LimitReached, match="tunnels"):
        quota.take(*second)
    assert len(quota) == 1
    place.release()
    quota.take(*second)
    unlimited = Quota("tunnels")
    unlimited.take(HERE, "a")
    unlimited.take(*second)


def test_others_are_not_held_to_what_one_has():
    quota = Quota("tunnels", per_address=2, per_owner=2, total=100)
    for _ in range(2):
        quota.take(HERE, "a")
    quota.take(THERE, "b")
    with pytest.raises(LimitReached, match="Your address"):
        quota.take(HERE, "b")
    with pytest.raises(LimitReached, match=r"You have reached your limit of tunnels \(2\)"):
        quota.take(THERE, "a")


def test_a_place_is_given_back_once():
    quota = Quota("tunnels", per_address=2)
    first, _ = quota.take(HERE), quota.take(HERE)
    first.release()
    first.release()
    quota.take(HERE)
    with pytest.raises(LimitReached):
        quota.take(HERE)


def test_a_refusal_leaves_nothing_behind():
    quota = Quota("tunnels", per_address=5, per_owner=1)
    quota.take(HERE, "a")
    for _ in range(10):
        with pytest.raises(LimitReached):
            quota.take(HERE, "a")
    for owner in "bcde":
        quota.take(HERE, owner)


def test_a_limit_of_the_owner_s_own_stands_instead_of_everybody_s():
    quota = Quota("tunnels", per_owner=1)
    for _ in range(3):
        quota.take(HERE, "a", most=3)
    with pytest.raises(LimitReached, match=r"You have reached your limit of tunnels \(3\)"):
        quota.take(HERE, "a", most=3)
    quota.take(HERE, "b")
    assert quota.is_full_for("b")
    assert not quota.is_full_for("c")


def test_what_is_about_to_be_given_back_does_not_count():
    quota = Quota("tunnels", per_address=1, per_owner=1, total=1)
    old = quota.take(HERE, "a")
    new = quota.take(HERE, "a", spare=1)
    old.release()
    with pytest.raises(LimitReached):
        quota.take(HERE, "a")
    new.release()
    assert len(quota) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_ipv6_customer_has_a_network(one, other, same):
    assert (network_of(one) == network_of(other)) is same
    quota = Quota("tunnels", per_address=1)
    quota.take(one)
    if same:
        with pytest.raises(LimitReached):
            quota.take(other)
    else:
        quota.take(other)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=60))
def test_nothing_is_kept_for_whoever_has_nothing(steps):
    quota = Quota("tunnels", per_address=3, per_owner=4, total=7)
    places = []
    for address, owner, leave in steps:
        if leave and places:
            places.pop(0).release()
            continue
        try:
            places.append(quota.take(address, owner))
        except LimitReached:
            continue
        assert len(quota) == len(places) <= 7
    for place in places:
        place.release()
    assert (quota._addresses, quota._owners, len(quota)) == ({}, {}, 0)


@pytest.mark.parametrize("limits", [{}, {"tunnels_per_address": 0, "leases_per_address": 0}])
def test_it_is_known_who_has_a_tunnel_or_a_name_limit_or_not(limits):
    quotas = make_quotas(QuotaLimits(**limits))
    for quota in (quotas.tunnels, quotas.leases):
        assert not quota.has(HERE)
        place = quota.take(HERE)
        assert quota.has(HERE)
        assert not quota.has(THERE)
        place.release()
        assert not quota.has(HERE)


def test_the_settings_say_which_limits_there_are():
    quotas = make_quotas(QuotaLimits(leases_per_address=1, tunnels_per_owner=2, parked=3))
    quotas.leases.take(HERE)
    with pytest.raises(LimitReached):
        quotas.leases.take(HERE)
    for _ in range(2):
        quotas.tunnels.take(HERE, "a")
    with pytest.raises(LimitReached):
        quotas.tunnels.take(HERE, "a")
    for _ in range(3):
        quotas.parked.take(HERE)
    with pytest.raises(LimitReached):
        quotas.parked.take(THERE)
    for limits in quotas:
        assert limits is not None
