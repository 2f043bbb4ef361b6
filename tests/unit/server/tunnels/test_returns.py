"""localtunnel.server.tunnels.returns: proxy connections that come back to the pool when their stream has ended."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import gevent
import pytest
from gevent import socket
from harness import CAP, LOOPBACK, request, unused_port, wait_until
from harness.exchanges import HOST, OK, Site, Stream, Tunnel, recycling_site, running_site
from harness.messages import single_bytes
from harness.peers import frame, read_message
from harness.tls import tls_connect
from harness.v3 import end, parked

from localtunnel.errors import ClientKicked
from localtunnel.net.channel import READS_AT_A_TIME
from localtunnel.net.deadline import take_turn
from localtunnel.net.flow.metered import Allowance
from localtunnel.networks import parse_network
from localtunnel.protocol.limits import MAX_BEHIND_ANSWER, PARKED_AGE
from localtunnel.server.tunnels import pool, returns

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
CLOSING = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
SURPLUS = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
KEYS = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = request(HOST, fields=f"Connection: Upgrade\r\nUpgrade: websocket\r\n{KEYS}")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
MARK = bytes(4)


# Ways by which a stream ends for its visitor. Each returns the client's end, to which the server's mark is on its way.

Way = Callable[[Site, Any], Stream]


def after_an_answer(site: Site, proxy: Any = None) -> Stream:
    visitor, upstream = site.join(GET, proxy=proxy)
    upstream.message()
    upstream.send(CLOSING)
    assert visitor.message().body == b"ok"
    return upstream


def after_a_moment(site: Site, proxy: Any = None) -> Stream:
    visitor, upstream = site.join(GET, proxy=proxy)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    return upstream


def after_an_upgrade(site: Site, proxy: Any = None) -> Stream:
    visitor, upstream = site.join(UPGRADE, proxy=proxy)
    upstream.message()
    upstream.send(SWITCHING)
    assert visitor.message().status == 101
    return after_words(visitor, upstream)


def after_a_join(site: Site, proxy: Any = None) -> Stream:
    visitor, upstream = site.join(GET, proxy=proxy)
    upstream.message()
    return after_words(visitor, upstream)


def after_words(visitor: Stream, upstream: Stream) -> Stream:
    """Let each side say something, and the visitor end its direction."""
    upstream.send(b"hello")
    assert visitor.exactly(5) == b"hello"
    visitor.send(b"goodbye")
    assert upstream.exactly(7) == b"goodbye"
    visitor.sock.shutdown(socket.SHUT_WR)
    return upstream


WAYS: dict[str, tuple[Way, Callable[[], dict[str, Any]]]] = {
    "answered": (after_an_answer, dict),
    "kept": (after_a_moment, dict),
    "upgrade": (after_an_upgrade, dict),
    "join": (after_a_join, lambda: {"edge": "join"}),
    "TCP": (after_a_join, lambda: {"fields": {"kind": "tcp"}, "tcp_ports": "{0}-{0}".format(unused_port())}),
}


@pytest.fixture
def site() -> Iterator[Site]:
    with recycling_site() as running:
        yield running


def over(site: Site) -> Any:
    """Return the client's end of a connection whose stream has ended on the server's side."""
    upstream = after_an_answer(site)
    assert upstream.rest() == b""
    return upstream


def is_closed(upstream: Stream) -> bool:
    """Read to the end, whichever kind it is, and say whether nothing came before."""
    try:
        return upstream.sock.recv(65536) == b""
    except ConnectionResetError:
        return True


def wait_until_held(site: Site, count: int) -> None:
    """Wait until so many connections are parked, have a place in the quota each, and none is on its way back."""
    quota = site.server._openings._quotas.parked

    def held() -> tuple[int, int, int]:
        tunnel = site.demo.tunnel
        return parked(site.server), len(quota), tunnel.returning if tunnel else 0

    wait_until(lambda: held() == (count, count, 0), what=f"{count} connections are parked")


# It comes back.


@pytest.mark.parametrize("metered", [False, True], ids=["free", "metered"])
@pytest.mark.parametrize("way", WAYS)
def test_it_serves_one_visitor_after_another_before_those_that_are_older(way: str, metered: bool) -> None:
    go, settings = WAYS[way]
    with recycling_site(**settings()) as site:
        if metered:
            site.demo.tunnel.meter = Allowance(10_000_000)
        older = site.demo.park()
        proxy = site.demo.park()
        for _ in range(3):
            site.recycle(go(site, proxy))
            wait_until_held(site, 2)
        site.demo.peer.control.close()
        assert is_closed(Stream(proxy))
        assert is_closed(Stream(older)), "to which nothing was ever assigned"


def test_a_visitor_who_waits_gets_it_at_once(site: Site) -> None:
    upstream = over(site)
    other = site.visit(request(HOST, "/second"))
    wait_until(lambda: site.demo.tunnel.waiting == 1)
    upstream.finish(site.demo.asking_back())
    second = site.demo.joined(upstream.sock)
    assert second.message().target == "/second"
    second.send(OK)
    assert other.message().body == b"ok"


CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "in the record of the mark": lambda asking: [MARK + asking],
    "in the next record": lambda asking: [MARK, asking],
    "in two records": lambda asking: [MARK + asking[:7], asking[7:]],
    "byte by byte": lambda asking: single_bytes(MARK + asking),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("way", WAYS)
def test_its_request_may_be_cut_in_any_way(way: str, cut: str) -> None:
    go, settings = WAYS[way]
    with recycling_site(**settings()) as site:
        upstream = go(site, None)
        assert upstream.rest() == b""
        Stream.send(upstream, *CUTS[cut](site.demo.asking_back()))
        wait_until_held(site, 1)
        go(site, upstream.sock)


def test_what_comes_behind_an_answer_goes_to_nobody(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(CLOSING + SURPLUS)
    assert visitor.message().body == b"ok"
    assert upstream.rest() == b""
    upstream.send(SURPLUS, SURPLUS[:9])
    Stream.send(upstream, MARK + site.demo.asking_back())
    wait_until_held(site, 1)
    other, second = site.join(GET, proxy=upstream.sock)
    second.message()
    second.send(OK)
    assert other.message().body == b"ok"
    assert other.waiting() == b""
    assert visitor.waiting() == b""


@pytest.mark.parametrize("more", [0, 1])
def test_it_goes_on_for_so_many_bytes(site: Site, more: int) -> None:
    upstream = over(site)
    data = b"x" * (MAX_BEHIND_ANSWER + more)
    upstream.send(*(data[at : at + 16_000] for at in range(0, len(data), 16_000)))
    if more:
        assert is_closed(upstream)
        wait_until_held(site, 0)
    else:
        upstream.finish(site.demo.asking_back())
        wait_until_held(site, 1)


def test_what_goes_on_does_not_hold_the_hub(site: Site) -> None:
    """Each record has a byte here: 64 KiB of those would take a third of a second."""
    upstream = over(site)
    wait_until(lambda: site.demo.tunnel.returning == 1)
    (connection,) = site.demo.tunnel._returns._open
    for _ in range(4 * READS_AT_A_TIME):
        upstream.send(b"x")
    seen = []
    while connection._dropped < 4 * READS_AT_A_TIME:
        seen.append(connection._dropped)
        take_turn()
    assert len(seen) >= 4, f"it was read in turns: {seen}"
    upstream.finish(site.demo.asking_back())
    wait_until_held(site, 1)


def test_its_age_counts_from_the_handshake_and_is_drawn_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([1.0, 0.8])
    monkeypatch.setattr(pool.random, "uniform", lambda low, high: next(drawn))
    proxy = site.demo.park()
    queue = site.demo.tunnel._pool._queue.queue
    expires = queue[-1].expires
    assert expires == queue[-1].sock.since + PARKED_AGE
    site.recycle(after_an_answer(site, proxy))
    assert queue[-1].expires == expires


# It does not.


def has_nothing_to_come_back_with(site: Site, asking: bytes) -> None:
    """Have a connection answered by ``asking`` behind its mark, and hold the server to closing it."""
    upstream = over(site)
    upstream.finish(asking)
    assert is_closed(upstream)
    wait_until_held(site, 0)


OTHERS: dict[str, Callable[[Site, Tunnel], bytes]] = {
    "another tunnel": lambda site, other: other.asking_back(),
    "another tunnel's session": lambda site, other: site.demo.asking_back(session=other.peer.session),
    "another tunnel's name": lambda site, other: site.demo.asking_back(name="other"),
    "a tunnel of nobody": lambda site, other: site.demo.asking_back(name="nobody"),
    "a session of nobody": lambda site, other: site.demo.asking_back(session="5e" * 16),
}


@pytest.mark.parametrize("case", OTHERS)
def test_it_never_changes_its_tunnel(site: Site, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client may own the other tunnel as well: what a connection has carried was this one's."""
    other = site.another("other")
    upstream = over(site)
    upstream.finish(OTHERS[case](site, other))
    assert read_message(upstream.sock)["error"] == "unavailable"
    assert is_closed(upstream)
    wait_until_held(site, 0)
    assert parked(site.server, "other") == 0
    assert "refused" in caplog.text


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("more", [b"x", MARK, frame({"got": 1}), "another"], ids=["x", "mark", "got", "the same"])
def test_nothing_may_follow_its_request_before_the_assignment(site: Site, records: int, more: Any) -> None:
    asking = site.demo.asking_back()
    behind = asking if more == "another" else more
    upstream = over(site)
    Stream.send(upstream, *([MARK + asking + behind] if records == 1 else [MARK + asking, behind]))
    assert is_closed(upstream)
    wait_until_held(site, 0)


@pytest.mark.parametrize(
    "said",
    [
        frame({"control": {"name": "demo", "client": "raw@test;Linux", "instance": "one"}}),
        frame({"got": 1}),
        frame({"ready": 1}),
        frame({"control": "ping"}),
        frame(b"{"),
        b"LTP/0.3" + frame({"proxy": {"name": "demo"}}),
        frame({"proxy": {"name": "demo"}}),
        b"\xff\xff\xff\xff",
        MARK,
    ],
    ids=["control", "got", "ready", "ping", "no JSON", "a header", "no session", "too long", "mark"],
)
def test_nothing_else_may_follow_its_mark(site: Site, said: bytes) -> None:
    has_nothing_to_come_back_with(site, said)


@pytest.mark.parametrize("way", ["upgrade", "join", "TCP"])
def test_nothing_at_all_may_before_the_servers_own(way: str) -> None:
    """The visitor's direction has not ended: the stream is broken."""
    _, settings = WAYS[way]
    with recycling_site(**settings()) as site:
        visitor, upstream = site.join(UPGRADE if way == "upgrade" else GET)
        upstream.message()
        upstream.send(SWITCHING)
        assert visitor.message().status == 101
        upstream.finish(site.demo.asking_back())
        assert visitor.was_reset()
        assert is_closed(upstream)
        wait_until_held(site, 0)


@pytest.mark.parametrize("delivered", [-1, 1 << 53, "1", True, 1.5])
def test_nor_a_number_of_bytes_that_is_none(site: Site, delivered: Any) -> None:
    has_nothing_to_come_back_with(site, site.demo.asking_back(delivered=delivered))


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\5he", MARK, MARK + b"\0\0"])
def test_its_client_may_close_it_instead(site: Site, how: str, said: bytes) -> None:
    upstream = over(site)
    wait_until(lambda: site.demo.tunnel.returning == 1)
    if said:
        upstream.sock.sendall(said)
    end(upstream.sock, how)
    wait_until_held(site, 0)


@pytest.mark.parametrize("said", [b"", b"\0\0\0", b"\0\0\0\5hello"])
def test_it_is_not_waited_for_without_a_mark(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MARK_TIMEOUT", 0.5)
    monkeypatch.setattr(returns, "ENDED_TIMEOUT", 60.0)
    with recycling_site() as site:
        upstream = over(site)
        if said:
            upstream.sock.sendall(said)
        assert is_closed(upstream)
        wait_until_held(site, 0)


@pytest.mark.parametrize("size", [0, 1, 30])
def test_nor_without_a_request(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MARK_TIMEOUT", 60.0)
    monkeypatch.setattr(returns, "ENDED_TIMEOUT", 0.5)
    with recycling_site() as site:
        upstream = over(site)
        upstream.finish(site.demo.asking_back()[:size])
        assert is_closed(upstream)
        wait_until_held(site, 0)


def test_it_finds_no_place_where_too_many_are_parked(caplog: pytest.LogCaptureFixture) -> None:
    with recycling_site(quotas={"parked_per_owner": 1}) as site:
        visitor, upstream = site.join(GET)
        upstream.message()
        site.demo.park()
        upstream.send(CLOSING)
        assert visitor.message().body == b"ok"
        assert upstream.rest() == b""
        assert is_closed(upstream)
        wait_until_held(site, 1)
        assert "refused" not in caplog.text, "for it would be so all the time"


@pytest.mark.parametrize("extra", [-1, 0])
def test_it_is_closed_where_twice_as_many_are_parked_as_the_server_asks_for(site: Site, extra: int) -> None:
    enough = 2 * site.demo.tunnel.size
    for _ in range(enough + extra):
        site.demo.park()
    upstream = over(site)
    upstream.finish(site.demo.asking_back())
    if extra == 0:
        assert is_closed(upstream)
    wait_until_held(site, enough)


def test_it_has_its_place_on_its_way_already() -> None:
    """Without one, a client whose visitors are its own could have any number of connections there."""
    with recycling_site(quotas={"parked_per_owner": 1}) as site:
        upstream = over(site)
        wait_until(lambda: site.server.stats().returning == 1)
        assert read_message(site.demo.peer.park())["error"] == "limit_reached"
        upstream.finish(site.demo.asking_back())
        wait_until_held(site, 1)


def test_it_is_closed_where_its_clients_address_is_banned(site: Site) -> None:
    upstream = over(site)
    site.server._bans.add(parse_network(LOOPBACK))
    upstream.finish(site.demo.asking_back())
    assert is_closed(upstream)
    wait_until_held(site, 0)


ENDS: dict[str, Callable[[Site], AbstractContextManager[object] | None]] = {
    "its client is gone": lambda site: site.demo.peer.control.close(),
    "it is released": lambda site: site.demo.peer.control.sendall(frame({"release": True})),
    "it is kicked": lambda site: site.demo.tunnel.revoke(ClientKicked("Enough.")),
    "it is replaced": lambda site: site.tunnels.append(
        Tunnel(site.server, "0.3", "demo", resume=site.demo.peer.session, connect=tls_connect, recycle=True)
    ),
    "the server stops": lambda site: site.server.stop(),
}


@pytest.mark.parametrize("said", [b"", b"\0\0\0\5he", MARK, MARK + b"\0\0"], ids=["", "part", "mark", "mark and part"])
@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_its_tunnel_closes_it(site: Site, how: str, said: bytes) -> None:
    upstream = over(site)
    if said:
        upstream.sock.sendall(said)
    tunnel = site.demo.tunnel
    wait_until(lambda: tunnel.returning == 1)
    ENDS[how](site)
    assert is_closed(upstream)
    assert tunnel.returning == 0
    assert parked(site.server) == 0


def test_none_comes_back_while_the_server_stops(site: Site) -> None:
    """Neither one that was on its way, nor one whose visitor has the time that the server gives."""
    earlier = over(site)
    visitor, upstream = site.join(GET)
    upstream.message()
    stopping = gevent.spawn(site.server.stop, CAP)
    wait_until(lambda: site.demo.peer.said("drain"))
    earlier.finish(site.demo.asking_back())
    assert is_closed(earlier)
    upstream.send(CLOSING)
    assert visitor.message().body == b"ok"
    assert upstream.rest() == b""
    assert is_closed(upstream)
    stopping.get(timeout=CAP)


@pytest.mark.parametrize("how", ["its client is gone", "it is released", "it is replaced"])
@pytest.mark.parametrize("way", ["upgrade", "join", "TCP"])
def test_nor_does_it_come_back_once_the_tunnel_has_ended(way: str, how: str) -> None:
    """Its visitor may stay for longer than the tunnel."""
    _, settings = WAYS[way]
    with recycling_site(**settings()) as site:
        tunnel = site.demo.tunnel
        visitor, upstream = site.join(UPGRADE if way == "upgrade" else GET)
        upstream.message()
        upstream.send(SWITCHING)
        assert visitor.message().status == 101
        ENDS[how](site)
        wait_until(lambda: tunnel.ended)
        after_words(visitor, upstream)
        assert upstream.rest() == b""
        upstream.finish(site.demo.asking_back())
        assert is_closed(upstream)
        assert parked(site.server) == 0


# Clients and links without it.


def test_on_a_new_connection_what_was_delivered_means_nothing(site: Site) -> None:
    proxy = site.demo.peer.open(b"LTP/0.3" + site.demo.asking_back(delivered=17))
    wait_until_held(site, 1)
    _, upstream = site.join(GET, proxy=proxy)
    assert upstream.message().target == "/"


@pytest.mark.parametrize("fields", [{}, {"recycle": False}, {"recycle": None}], ids=["none", "false", "null"])
@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_does_not_ask_for_it_has_its_connections_closed(way: str, fields: dict[str, Any]) -> None:
    go, settings = WAYS[way]
    given = settings()
    asked = {"connect": tls_connect, **fields, **given.pop("fields", {})}
    with running_site("0.3", asked, **given) as site:
        assert "recycle" not in site.demo.peer.reply["control"]
        upstream: Any = go(site, None)
        assert upstream.rest() == b""
        upstream.finish()
        assert is_closed(upstream)


@pytest.mark.parametrize("way", WAYS)
def test_nor_does_anything_change_in_the_clear(way: str) -> None:
    go, settings = WAYS[way]
    given = settings()
    with running_site("0.3", {"recycle": True, **given.pop("fields", {})}, **given) as site:
        assert "recycle" not in site.demo.peer.reply["control"]
        upstream = go(site, None)
        assert upstream.rest() == b""
        upstream.close()
        wait_until(lambda: not site.server.joins)


def test_a_client_that_does_not_ask_for_it_may_say_nothing_behind_its_mark() -> None:
    with running_site("0.3", {"connect": tls_connect}) as site:
        visitor, upstream = site.join(UPGRADE)
        upstream.message()
        upstream.send(SWITCHING)
        assert visitor.message().status == 101
        Stream.send(upstream, MARK + site.demo.asking_back())
        assert visitor.was_reset()
        assert is_closed(upstream)
