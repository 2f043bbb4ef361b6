"""localtunnel.server.ports: which public port is whose; ``test_v3_tcp`` has the connections."""

import itertools
import socket

import pytest
from harness import LOOPBACK, unused_port

from localtunnel.errors import ConfigError, PortRefused
from localtunnel.protocol.framing import LTP_0_3
from localtunnel.server.demand import Shares
from localtunnel.server.join import Joins
from localtunnel.server.ports import Ports, parse_range
from localtunnel.server.registry import Claim
from localtunnel.server.tunnel import Tunnel


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", range(0)),
        ("20000-20999", range(20000, 21000)),
        ("1-65535", range(1, 65536)),
        ("20000-20000", range(20000, 20001)),
    ],
)
def test_ranges(text, ports):
    assert parse_range(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "20000",
        "20000-",
        "-20000",
        "20999-20000",
        "0-10",
        "1-65536",
        "a-b",
        "1-2-3",
        " 1-2",
        "1 - 2",
        "-",
        "\u00b2-3",
        "\uff11-2",
    ],
)
def test_what_is_no_range(text):
    with pytest.raises(ConfigError, match="FIRST-LAST"):
        parse_range(text)


def make(text="20000-20002"):
    return Ports(parse_range(text), LOOPBACK, loopback=True, wait=1.0)


def claim(name="demo"):
    return Claim(name, "me", "one", "tcp")


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
    heir.port = holder.port
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


def test_a_port_that_another_program_has():
    port = unused_port()
    ports = make(f"{port}-{port}")
    tunnel = Tunnel("demo", "tcp", LTP_0_3, 10, Shares(10, 10), Joins())
    with socket.create_server((LOOPBACK, port)), pytest.raises(PortRefused, match="another program"):
        ports.open(port, tunnel, itertools.count(1))
