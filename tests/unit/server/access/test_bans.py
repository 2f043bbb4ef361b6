"""localtunnel.server.access.bans: which addresses are banned, now and after a restart."""

import pytest

from localtunnel.errors import AddressError
from localtunnel.networks import Networks, parse_network
from localtunnel.server.access import bans
from localtunnel.server.access.bans import Bans
from localtunnel.server.store import Store

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def opened(tmp_path):
    stores = []

    def open_again():
        if stores:
            stores[-1].close()
        stores.append(Store(tmp_path, (bans.SCHEMA,)))
        stores[-1].open()
        made = Bans(stores[-1])
        made.load()
        return made

    yield open_again
    stores[-1].close()


def test_a_ban_outlives_a_restart_and_its_end_does_too(opened):
    made = opened()
    assert not made.hold("203.0.113.7")
    made.add(parse_network("203.0.113.7"))
    made.add(parse_network("2001:db8::/64"))
    made.add(parse_network("203.0.113.7"))
    made = opened()
    assert [str(network) for network, _ in made] == ["203.0.113.7/32", "2001:db8::/64"]
    assert made.hold("203.0.113.7")
    assert made.remove(parse_network("203.0.113.7"))
    assert not made.remove(parse_network("203.0.113.7"))
    made = opened()
    assert not made.hold("203.0.113.7")
    assert made.hold("2001:db8::7")


def test_both_forms_of_an_ipv4_network_are_one_ban(opened):
    made = opened()
    made.add(parse_network("::ffff:192.0.2.0/120"))
    assert made.hold("192.0.2.7")
    assert made.may_be_told("192.0.2.7")
    made = opened()
    assert made.hold("192.0.2.7")
    assert made.remove(parse_network("192.0.2.0/24"))
    assert not made.hold("192.0.2.7")


def test_a_few_clients_of_each_banned_network_may_be_told(tmp_path):
    now = [100.0]
    store = Store(tmp_path, (bans.SCHEMA,))
    store.open()
    try:
        made = Bans(store, lambda: now[0])
        made.add(parse_network("203.0.113.0/24"))
        made.add(parse_network("198.51.100.7"))
        assert [made.may_be_told(f"203.0.113.{number}") for number in range(6)] == 5 * [True] + [False]
        assert made.may_be_told("198.51.100.7")
        assert not made.may_be_told("192.0.2.1")
        now[0] += 1.0
        assert [made.may_be_told("203.0.113.7") for _ in range(2)] == [True, False]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("text", "host", "banned"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.9/24", "203.0.113.8", True),
        ("203.0.113.0/24", "203.0.114.8", False),
        ("2001:db8:1:2::9/64", "2001:db8:1:2:3::4", True),
        ("2001:db8:1:2::9/64", "2001:db8:1:3::4", False),
        ("2001:db8::/32", "203.0.113.7", False),
        ("0.0.0.0/0", "::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "", False),
        # Visitors and clients of IPv4 come with their IPv4 addresses.
        ("::ffff:192.0.2.0/120", "192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "192.0.3.7", False),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", True),
    ],
)
def test_which_addresses_a_ban_includes(text, host, banned):
    assert (host in Networks([parse_network(text)])) is banned


@pytest.mark.parametrize("text", ["", "example.com", "203.0.113", "203.0.113.7/33", "203.0.113.7:80", "203.0.113.7 "])
def test_what_is_no_address(text):
    with pytest.raises(AddressError, match="is not an IP address or network"):
        parse_network(text)
