"""localtunnel.server.names.ports: which public port is whose; ``end_to_end/test_tcp`` has the connections."""

import pytest
from harness.tunnels import make_tunnel

from localtunnel.errors import PortRefused
from localtunnel.net.address import parse_range
from localtunnel.server.names.claims import Owner
from localtunnel.server.names.ports import Ports
from localtunnel.server.names.registry import Claim


def make(text="20000-20002"):
    return Ports(parse_range(text))


def claim(name="demo", owner=None, **fields):
    """Return a claim of the owner with that id: by default an owner of its own for each name."""
    return Claim(name, Owner(owner or name, kept=True), "one", "tcp", **fields)


def test_each_claim_gets_a_port_of_its_own_in_turn():
    ports = make()
    claims = [claim(f"tunnel-{number}") for number in range(3)]
    assert [ports.reserve(each, None) for each in claims] == [20000, 20001, 20002]
    with pytest.raises(PortRefused, match="Every TCP port"):
        ports.reserve(claim("one-too-many"), None)
    ports.free(claims[1])
    assert ports.reserve(claim("the-next"), None) == 20001


def test_the_port_that_was_free_the_longest_comes_next():
    ports, given = make(), []
    for _ in range(5):
        holder = claim()
        given.append(ports.reserve(holder, None))
        ports.free(holder)
    assert given == [20000, 20001, 20002, 20000, 20001]


def test_a_wish_is_granted_or_refused_with_the_reason():
    ports, holder, other = make(), claim(), claim("other")
    assert ports.reserve(holder, 20001) == 20001
    assert ports.reserve(holder, None) == 20001
    assert ports.reserve(holder, 20001) == 20001
    with pytest.raises(PortRefused, match="belongs to another tunnel"):
        ports.reserve(other, 20001)
    with pytest.raises(PortRefused, match="choose one of 20000-20002"):
        ports.reserve(other, 80)
    with pytest.raises(PortRefused, match="offers no TCP tunnels"):
        make("").reserve(other, None)


def test_another_wish_gives_the_old_port_back():
    ports, holder = make(), claim()
    ports.reserve(holder, 20001)
    assert ports.reserve(holder, 20002) == 20002
    assert ports.reserve(claim("other"), 20001) == 20001


def test_a_wish_that_is_refused_keeps_the_old_port():
    ports, holder = make(), claim()
    ports.reserve(holder, 20001)
    with pytest.raises(PortRefused):
        ports.reserve(holder, 80)
    with pytest.raises(PortRefused):
        ports.reserve(claim("other"), 20001)


def test_freeing_twice_or_by_somebody_else_takes_nothing():
    ports, holder, heir = make(), claim(), claim()
    ports.reserve(holder, None)
    ports.free(claim("other"))
    heir.port, holder.port = holder.port, None
    ports.inherit(heir)
    ports.free(holder)
    ports.free(holder)
    with pytest.raises(PortRefused):
        ports.reserve(claim("other"), heir.port)
    ports.free(heir)
    assert ports.reserve(claim("other"), heir.port) == heir.port


def test_a_claim_without_a_port_inherits_and_frees_none():
    ports = make("20000-20000")
    ports.inherit(claim())
    ports.free(claim())
    assert ports.reserve(claim("other"), None) == 20000


def test_a_port_that_is_only_leased_goes_to_whatever_its_owner_opens():
    ports = make()
    leased, heir = claim("old", "ann"), claim("new", "ann")
    ports.reserve(leased, 20001)
    with pytest.raises(PortRefused, match="belongs to another tunnel"):
        ports.reserve(claim("other"), 20001)
    assert ports.reserve(heir, 20001) == 20001
    assert leased.port is None
    ports.free(leased)
    with pytest.raises(PortRefused):
        ports.reserve(claim("other"), 20001)


def test_a_port_whose_tunnel_is_open_goes_to_its_owner_by_takeover_only():
    ports, holder = make(), claim("old", "ann", tunnel=make_tunnel())
    ports.reserve(holder, 20001)
    with pytest.raises(PortRefused, match="--takeover"):
        ports.reserve(claim("new", "ann"), 20001)
    with pytest.raises(PortRefused, match="belongs to another tunnel"):
        ports.reserve(claim("other"), 20001, takeover=True)
    assert holder.tunnel.ended is None
    assert ports.reserve(claim("new", "ann"), 20001, takeover=True) == 20001
    assert holder.tunnel.ended == "replaced"


def test_what_was_leased_over_tls_is_not_moved_in_the_clear():
    ports = make("20000-20000")
    ports.reserve(claim("old", "ann", encrypted=True), 20000)
    for wanted in (20000, None):
        with pytest.raises(PortRefused):
            ports.reserve(claim("new", "ann"), wanted)
    assert ports.reserve(claim("new", "ann", encrypted=True), 20000) == 20000


def test_where_no_port_is_free_one_that_is_leased_to_the_owner_is_given():
    """Whoever starts a client again and again, under generated names, does not use all ports up."""
    ports = make()
    for number in range(3):
        ports.reserve(claim(f"old-{number}", "ann"), None)
    with pytest.raises(PortRefused, match="Every TCP port"):
        ports.reserve(claim("other"), None)
    assert ports.reserve(claim("new", "ann"), None) in range(20000, 20003)


def test_of_two_claims_that_were_written_down_with_one_port_the_second_has_none():
    ports, first, second = make(), claim("first"), claim("second")
    for each in (first, second):
        each.port = 20001
        ports.inherit(each)
    assert (first.port, second.port) == (20001, None)
