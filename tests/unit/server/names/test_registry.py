"""localtunnel.server.names.registry: names, their owners, and where a host leads."""

import pytest
from harness.tunnels import make_tunnel

from localtunnel.errors import NameInvalid, NameUnavailable
from localtunnel.protocol.version import LTP_0_2
from localtunnel.server.names.claims import Owner, Wish
from localtunnel.server.names.registry import Registry

HERE, THERE = "203.0.113.7", "198.51.100.9"
ONE, TWO = "me@laptop;Linux;1", "me@laptop;Linux;2"


@pytest.fixture
def registry(ports):
    return Registry("tunnels.example", ports=ports)


def claim(registry, name, owner=HERE, instance=ONE, **fields):
    """Claim ``name`` and open a tunnel under it, as a control connection does."""
    made = registry.claim(Owner(owner), instance, Wish(name, **fields))
    made.tunnel = make_tunnel(made.name, LTP_0_2)
    return made


def test_a_claim_is_found_and_routed_to(registry):
    made = claim(registry, "foo")
    assert registry.find("foo") is made
    assert registry.route("foo.tunnels.example") is made
    assert registry.tunnels() == [made.tunnel]
    assert len(registry) == 1


def test_names_are_kept_in_lower_case(registry):
    made = claim(registry, "Foo")
    assert made.name == "foo"
    assert registry.find("FOO") is made
    with pytest.raises(NameUnavailable):
        claim(registry, "fOO", owner=THERE)


@pytest.mark.parametrize(
    "host", ["tunnels.example", "bar.tunnels.example", "foo", "xfoo.tunnels.example", "a.foo.tunnels.example", ""]
)
def test_other_hosts_lead_nowhere(registry, host):
    claim(registry, "foo")
    assert registry.route(host) is None


def test_a_claim_without_a_tunnel_is_known_and_has_none_yet(registry):
    made = registry.claim(Owner(HERE), ONE, Wish("foo"))
    assert registry.route("foo.tunnels.example") is made
    assert made.tunnel is None
    assert registry.tunnels() == []
    assert len(registry) == 1


@pytest.mark.parametrize(("owner", "instance"), [(THERE, ONE), (HERE, TWO)])
def test_another_client_is_refused_and_changes_nothing(registry, owner, instance):
    made = claim(registry, "foo")
    with pytest.raises(NameUnavailable, match="'foo' is in use"):
        claim(registry, "foo", owner, instance)
    assert registry.find("foo") is made
    assert made.tunnel.ended is None


def test_the_same_client_replaces_its_own_tunnel(registry):
    old = claim(registry, "foo")
    new = claim(registry, "foo")
    assert old.tunnel.ended == "replaced"
    assert registry.route("foo.tunnels.example") is new
    assert len(registry) == 1


def test_a_late_release_leaves_the_successor_alone(registry, freed):
    old = claim(registry, "foo")
    new = claim(registry, "foo")
    registry.release(old)
    assert registry.find("foo") is new
    registry.release(new)
    registry.release(new)
    assert registry.find("foo") is None
    assert len(registry) == 0
    assert freed == [old, new]


def test_a_released_name_is_free_for_anybody_at_once(registry):
    registry.release(claim(registry, "foo"))
    assert claim(registry, "foo", owner=THERE).owner == Owner(THERE)


def test_a_host_of_its_own_leads_to_the_tunnel_as_well(registry):
    made = claim(registry, "foo", host="WWW.Example.org.")
    assert made.host == "www.example.org"
    assert registry.route("www.example.org") is made
    assert registry.route("foo.tunnels.example") is made
    assert len(registry) == 1
    assert registry.tunnels() == [made.tunnel]
    registry.release(made)
    assert registry.route("www.example.org") is None


def test_a_host_that_another_client_has_is_refused_and_the_name_stays_free(registry):
    claim(registry, "foo", host="www.example.org")
    with pytest.raises(NameUnavailable, match=r"'www\.example\.org' is in use"):
        claim(registry, "bar", owner=THERE, host="www.example.org")
    assert registry.find("bar") is None


def test_replacing_gives_up_the_host_that_is_no_longer_asked_for(registry):
    claim(registry, "foo", host="www.example.org")
    claim(registry, "foo")
    assert registry.route("www.example.org") is None
    assert claim(registry, "bar", owner=THERE, host="www.example.org").host == "www.example.org"


@pytest.mark.parametrize(
    "host",
    [
        "tunnels.example",
        "bar.tunnels.example",
        "two words.example",
    ],
)
def test_a_host_that_no_tunnel_may_have_is_refused(registry, host):
    with pytest.raises(NameInvalid):
        registry.claim(Owner(HERE), ONE, Wish("foo", host=host))
    assert len(registry) == 0


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a.b", "a_b", "www", "localhost", "w-w-w", "adm1n", "x" * 64, "xn--abc", "ä", "a\n"]
)
def test_a_name_that_no_tunnel_may_have_is_refused(registry, name):
    with pytest.raises(NameInvalid):
        registry.claim(Owner(HERE), ONE, Wish(name))
    assert len(registry) == 0
