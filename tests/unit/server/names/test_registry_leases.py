"""localtunnel.server.names.registry: sessions, who may follow whom, and names that are kept for a while."""

import pytest
from harness import wait_until
from harness.tunnels import make_tunnel

from localtunnel.errors import NameUnavailable
from localtunnel.server.names.claims import Owner, Wish
from localtunnel.server.names.registry import Registry

pytestmark = pytest.mark.usefixtures("no_leaks")

HERE, THERE = "me@laptop;Linux 203.0.113.7", "me@laptop;Linux 198.51.100.9"
LONG = 60.0


@pytest.fixture
def registry(ports):
    made = Registry("tunnels.example", ports=ports)
    yield made
    made.close()


def claim(registry, owner=HERE, instance="one", **fields):
    """Claim the name ``foo`` and open a tunnel under it, as a control connection does."""
    made = registry.claim(Owner(owner), instance, Wish("foo", **fields))
    made.tunnel = make_tunnel(made.name)
    return made


def leased(registry, seconds=LONG, **fields):
    """Claim the name, and lose the client without a word."""
    made = claim(registry, **fields)
    made.tunnel.end("control connection closed")
    registry.lease(made, seconds)
    return made


def test_a_session_is_128_bits_that_nobody_else_has(registry):
    sessions = {registry.claim(Owner(HERE), "one", Wish(f"name-{number}")).session for number in range(100)}
    assert len(sessions) == 100
    assert all(len(bytes.fromhex(session)) == 16 for session in sessions)


def test_a_session_is_that_of_its_claim_alone(registry):
    made = claim(registry)
    assert made.is_session(made.session)
    assert not made.is_session(None)
    assert not made.is_session("")
    assert not made.is_session(made.session[:-1])
    assert not made.is_session(made.session.upper() + "x")
    assert not made.is_session("\u00e9" * 32)


@pytest.mark.parametrize(("owner", "instance"), [(HERE, "one"), (HERE, "two"), (THERE, "one"), (THERE, "two")])
def test_whoever_knows_the_session_takes_an_open_tunnel_over(registry, freed, owner, instance):
    old = claim(registry)
    new = claim(registry, owner, instance, resume=old.session)
    assert old.tunnel.ended == "replaced"
    assert new.session == old.session
    assert registry.find("foo") is new
    registry.release(old)
    assert registry.find("foo") is new
    assert freed == [old]


@pytest.mark.parametrize("resume", [None, "0" * 32])
@pytest.mark.parametrize(("owner", "instance"), [(HERE, "two"), (THERE, "one"), (THERE, "two")])
def test_nobody_else_takes_an_open_tunnel_over(registry, owner, instance, resume):
    made = claim(registry)
    with pytest.raises(NameUnavailable, match="'foo' is in use"):
        claim(registry, owner, instance, resume=resume)
    assert made.tunnel.ended is None
    assert registry.find("foo") is made


def test_the_same_instance_needs_no_session_and_gets_another_one(registry):
    old = claim(registry)
    new = claim(registry)
    assert old.tunnel.ended == "replaced"
    assert new.session != old.session


def test_a_leased_name_is_known_and_has_no_tunnel(registry, freed):
    made = leased(registry)
    assert registry.find("foo") is made
    assert registry.route("foo.tunnels.example") is made
    assert made.tunnel is None
    assert registry.tunnels() == []
    assert len(registry) == 1
    assert freed == []


@pytest.mark.parametrize("instance", ["one", "two"])
def test_a_leased_name_goes_back_to_its_owner_whatever_the_instance(registry, instance):
    old = leased(registry)
    new = claim(registry, HERE, instance)
    assert registry.find("foo") is new
    assert new.session != old.session


def test_a_leased_name_goes_back_with_its_session_from_anywhere(registry):
    old = leased(registry)
    new = claim(registry, THERE, "two", resume=old.session)
    assert registry.find("foo") is new
    assert new.session == old.session


@pytest.mark.parametrize("resume", [None, "0" * 32])
def test_a_stranger_does_not_get_a_leased_name(registry, resume):
    made = leased(registry)
    with pytest.raises(NameUnavailable, match="'foo' is in use"):
        claim(registry, THERE, "one", resume=resume)
    assert registry.find("foo") is made


def test_a_lease_ends_by_itself_and_the_name_is_anybodys(registry, freed):
    made = leased(registry, 0.02)
    wait_until(lambda: registry.find("foo") is None, what="the end of the lease")
    assert freed == [made]
    assert claim(registry, THERE).owner == Owner(THERE)


def test_the_end_of_a_lease_that_was_taken_up_does_not_touch_the_successor(registry, freed):
    old = leased(registry, 0.02)
    new = claim(registry)
    later = registry.claim(Owner(HERE), "one", Wish("bar"))
    registry.lease(later, 0.05)
    # It was asked for later, so the first one would have ended before it.
    wait_until(lambda: registry.find("bar") is None, what="the end of a later lease")
    assert registry.find("foo") is new
    assert freed == [old, later]


def test_a_claim_that_was_replaced_gets_no_lease(registry):
    old = claim(registry)
    new = claim(registry)
    registry.lease(old, LONG)
    assert registry.find("foo") is new
    registry.release(new)
    assert len(registry) == 0


def test_the_port_goes_with_the_name_to_whatever_follows_it(registry, freed):
    old = claim(registry, kind="tcp")
    old.port = 20_000
    resumed = claim(registry, HERE, "two", kind="tcp", resume=old.session)
    assert (resumed.port, old.port) == (20_000, None)
    again = claim(registry, HERE, "two", kind="tcp")
    assert (again.port, resumed.port) == (20_000, None)
    assert freed == [old, resumed]


def test_another_kind_of_tunnel_begins_anew(registry):
    old = claim(registry, kind="tcp")
    old.port = 20_000
    new = claim(registry, resume=old.session)
    assert new.session != old.session
    assert (new.port, old.port) == (None, 20_000)


def test_a_visitor_of_http_is_not_led_to_a_tcp_tunnel(registry):
    made = claim(registry, kind="tcp")
    assert registry.find("foo") is made
    assert registry.route("foo.tunnels.example") is None


def test_closing_ends_tunnels_and_leases(registry, freed):
    lost = leased(registry)
    connected = registry.claim(Owner(HERE), "one", Wish("bar", host="www.example.org"))
    connected.tunnel = make_tunnel("bar")
    registry.close()
    assert len(registry) == 0
    assert connected.tunnel.ended == "server stopped"
    assert set(freed) == {lost, connected}
