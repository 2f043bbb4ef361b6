"""WebSocket at the HTTP edge: a connection that turns into bytes only, and one that does not."""

from collections.abc import Iterator

import pytest
from gevent.select import select
from harness import parse_response, request, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, running_site
from harness.v3 import end

pytestmark = pytest.mark.usefixtures("no_leaks")

KEYS = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = request(HOST, "/chat", fields=f"Connection: Upgrade\r\nUpgrade: websocket\r\n{KEYS}")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_an_upgrade_carries_bytes_both_ways(site: Site, bytewise: bool) -> None:
    visitor, upstream = site.join(UPGRADE)
    asked = upstream.message()
    assert (asked.fields["connection"], asked.fields["upgrade"]) == ("Upgrade", "websocket")
    assert asked.fields["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="
    answer = SWITCHING + b"at once"
    upstream.send(*([answer[at : at + 1] for at in range(len(answer))] if bytewise else [answer]))
    told = visitor.message()
    assert told.status == 101
    assert (told.fields["connection"], told.fields["upgrade"]) == ("Upgrade", "websocket")
    assert visitor.exactly(7) == b"at once"
    for number in range(20):
        visitor.send(b"ping %02d" % number)
        assert upstream.exactly(7) == b"ping %02d" % number
        upstream.send(b"\x00\xff\r\n\r\n")
        assert visitor.exactly(6) == b"\x00\xff\r\n\r\n"


def test_a_websocket_that_is_offered_among_others_goes_on_alone(site: Site) -> None:
    fields = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, WebSocket\r\nHTTP2-Settings: AAMA\r\n{KEYS}"
    visitor, upstream = site.join(request(HOST, "/chat", fields=fields))
    asked = upstream.message()
    assert (asked.fields["connection"], asked.fields["upgrade"]) == ("Upgrade", "websocket")
    assert "http2-settings" not in asked.fields
    upstream.send(SWITCHING)
    assert visitor.message().status == 101
    visitor.send(b"ping")
    assert upstream.exactly(4) == b"ping"


def test_what_follows_the_head_is_held_until_101(site: Site) -> None:
    visitor, upstream = site.join(UPGRADE + b"early ")
    upstream.message()
    visitor.send(b"and more")
    wait_until(lambda: next(iter(site.edge.connections)).held == b"early and more")
    assert upstream.waiting() == b""
    upstream.send(SWITCHING)
    assert upstream.exactly(14) == b"early and more"


def test_an_upgrade_that_is_refused_goes_on_as_http(site: Site) -> None:
    """On another connection: this one may have been half of a WebSocket to the upstream."""
    visitor, upstream = site.join(UPGRADE + request(HOST, "/next"))
    upstream.message()
    proxy = site.demo.park()
    upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert visitor.message().status == 403
    fresh = site.demo.joined(proxy)
    assert fresh.message().target == "/next"
    fresh.send(OK)
    assert visitor.message().body == b"ok"
    assert upstream.rest() == b""


def test_interim_responses_come_before_the_101(site: Site) -> None:
    visitor, upstream = site.join(UPGRADE)
    upstream.message()
    upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCHING)
    assert [visitor.message().status, visitor.message().status] == [103, 101]


@pytest.mark.parametrize(
    ("connection", "protocol"),
    [("Upgrade, HTTP2-Settings", "h2c"), ("Upgrade", "websocket/13"), ("keep-alive", "websocket")],
)
def test_any_other_offer_is_dropped(site: Site, connection: str, protocol: str) -> None:
    fields = f"Connection: {connection}\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    visitor, upstream = site.join(request(HOST, fields=fields))
    assert not {"upgrade", "connection", "http2-settings"} & set(upstream.message().fields)
    upstream.send(OK)
    assert visitor.message().body == b"ok"


def test_an_upgrade_never_goes_out_on_a_kept_connection(site: Site) -> None:
    """Of one that meets its closing nobody knows whether it was taken, and it may not be repeated."""
    visitor, kept = site.join(request(HOST))
    kept.message()
    kept.send(OK)
    visitor.message()
    proxy = site.demo.park()
    visitor.send(UPGRADE)
    upstream = site.demo.joined(proxy)
    assert upstream.message().target == "/chat"
    upstream.send(SWITCHING)
    assert visitor.message().status == 101


@pytest.mark.parametrize("who", ["visitor", "upstream"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_either_may_end_it(site: Site, who: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtunnel.net.flow.relay.HELD_EOF_ANSWERED", 0.3)
    visitor, upstream = site.join(UPGRADE)
    upstream.message()
    upstream.send(SWITCHING)
    visitor.message()
    leaving, staying = (visitor, upstream) if who == "visitor" else (upstream, visitor)
    leaving.send(b"last words")
    assert staying.exactly(10) == b"last words"
    end(leaving.sock, how)
    assert staying.was_reset() == (how == "RST")
    staying.close()
    wait_until(lambda: not site.server.joins and not site.edge.connections)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_visitors_end_is_held_back_from_a_client_of_0_2(version: str) -> None:
    """Such a client takes a FIN for the end of both directions (PROTOCOL.md, section 13)."""
    with running_site(version) as site:
        visitor, upstream = site.join(UPGRADE)
        upstream.message()
        upstream.send(SWITCHING)
        visitor.message()
        end(visitor.sock, "FIN")
        told, _, _ = select([upstream.sock], [], [], 0.3)
        assert bool(told) == (version != "0.2")


def test_an_upgrade_that_nobody_answers_is_502(site: Site) -> None:
    visitor, upstream = site.join(UPGRADE)
    upstream.message()
    upstream.close()
    assert parse_response(visitor.rest()).fields["x-localtunnel-error"] == "upstream_closed"


def test_stopping_ends_it_after_the_grace(site: Site) -> None:
    visitor, upstream = site.join(UPGRADE)
    upstream.message()
    upstream.send(SWITCHING)
    visitor.message()
    site.server.stop(0.05)
    assert visitor.was_reset()
    assert upstream.was_reset()
