"""localtunnel.server.visitors.routes: which tunnel a request leads to, or which answer of the server's own."""

import pytest
from harness import request
from harness.tunnels import make_tunnel

from localtunnel.errors import ClientOffline, TunnelNotFound
from localtunnel.http.message.request import HeadReader, RequestHead
from localtunnel.protocol.messages import Kind
from localtunnel.server.names.claims import Claim, Owner, Wish
from localtunnel.server.names.registry import Registry
from localtunnel.server.stats import Stats
from localtunnel.server.tunnels.tunnel import Tunnel
from localtunnel.server.visitors.routes import Meta, Routes

DOMAIN = "tunnels.example"
VISITOR = "192.0.2.1"


class Town:
    """Routes, with a registry to fill."""

    def __init__(self) -> None:
        self.registry = Registry(DOMAIN)
        self.meta = Meta(DOMAIN, Stats)
        self.routes = Routes(self.registry, self.meta, warns=False)

    def claim(self, name: str, kind: Kind = "http", host: str | None = None) -> Claim:
        claim = self.registry.claim(Owner("me"), "one", Wish(name, kind, host))
        claim.tunnel = make_tunnel(name)
        return claim

    def find(self, host: str, target: str = "/") -> Tunnel | bytes:
        return self.routes.find(head(host, target), VISITOR)


def head(host: str, target: str = "/") -> RequestHead:
    found = HeadReader().feed(request(host, target))
    assert found is not None
    return found


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.mark.parametrize("host", ["foo.tunnels.example", "FOO.Tunnels.Example.", "foo.tunnels.example:8000"])
def test_a_name_under_the_domain(town: Town, host: str) -> None:
    claim = town.claim("foo")
    assert town.find(host) is claim.tunnel


def test_a_host_of_its_own(town: Town) -> None:
    claim = town.claim("foo", host="www.example.org")
    assert town.find("www.example.org") is town.find("foo.tunnels.example") is claim.tunnel


@pytest.mark.parametrize(
    "host", ["bar.tunnels.example", "a.foo.tunnels.example", "footunnels.example", "foo", "www.example.org"]
)
def test_a_host_that_is_nobodys(town: Town, host: str) -> None:
    town.claim("foo")
    with pytest.raises(TunnelNotFound, match=host):
        town.find(host)


def test_a_tunnel_of_another_kind_has_no_host(town: Town) -> None:
    town.claim("foo", kind="tcp")
    with pytest.raises(TunnelNotFound):
        town.find("foo.tunnels.example")


def test_a_tunnel_whose_client_is_away(town: Town) -> None:
    claim = town.claim("foo")
    assert claim.tunnel is not None
    claim.tunnel.end("no heartbeat")
    for tunnel in (claim.tunnel, None):
        claim.tunnel = tunnel
        with pytest.raises(ClientOffline, match=r"foo\.tunnels\.example is not connected"):
            town.find("foo.tunnels.example")


@pytest.mark.parametrize("host", [DOMAIN, "localhost", "192.0.2.1", "[::1]:8000"])
def test_the_servers_own_pages(town: Town, host: str) -> None:
    answer = town.find(host, "/meta/version")
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_every_request_is_counted(town: Town) -> None:
    town.claim("foo")
    town.find("foo.tunnels.example")
    town.find("localhost")
    with pytest.raises(TunnelNotFound):
        town.find("bar.tunnels.example")
    assert town.routes.requests == 3
