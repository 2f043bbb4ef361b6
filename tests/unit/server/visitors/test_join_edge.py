"""localtunnel.server.visitors.join_edge: join mode, in which the first request decides and the rest is bytes only."""

import socket
from collections.abc import Iterator

import gevent
import pytest
from harness import (
    at_most,
    fetch,
    is_reset,
    parse_response,
    read_exactly,
    read_head,
    read_to_end,
    request,
    wait_until,
)
from harness.exchanges import HOST, OK, VERSIONS, Site, running_site
from harness.v3 import end

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param, edge="join", timeouts={"head": 0.3, "pool_wait": 5}) as running:
        yield running


def told(sock: object) -> tuple[int, str]:
    response = parse_response(read_to_end(sock))
    return response.status, response.fields["x-localtunnel-error"]


@pytest.mark.parametrize("size", [1000, 10], ids=["whole", "in pieces"])
def test_what_was_read_is_replayed_untouched(site: Site, size: int) -> None:
    sent = request(HOST, "/a", "POST", "X-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n", b"body")
    visitor, upstream = site.join(*[sent[at : at + size] for at in range(0, len(sent), size)])
    assert upstream.exactly(len(sent)) == sent
    answer = b"not even HTTP"
    upstream.send(answer)
    assert visitor.exactly(len(answer)) == answer


def test_nothing_is_looked_at_after_the_first_request(site: Site) -> None:
    visitor, upstream = site.join(GET)
    assert upstream.exactly(len(GET)) == GET
    for sent in (request("other.localhost"), b"\x00\xff GET\n"):
        visitor.send(sent)
        assert upstream.exactly(len(sent)) == sent


def test_pipelined_requests_go_together(site: Site) -> None:
    both = GET + request("other.localhost")
    _, upstream = site.join(both)
    assert upstream.exactly(len(both)) == both


def test_each_visitor_has_a_connection_of_its_own(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.head()
    upstream.send(OK)
    visitor.message()
    proxy = site.demo.park()
    site.visit(GET)
    assert site.demo.joined(proxy).head().target == "/"
    assert upstream.waiting() == b""


def test_an_upstream_that_ends_without_a_byte_is_502(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.head()
    upstream.close()
    assert told(visitor.sock) == (502, "upstream_closed")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (request("nobody.localhost"), 404),
        (request("localhost", "/meta/version"), 200),
    ],
)
def test_the_servers_own_answers(site: Site, sent: bytes, status: int) -> None:
    assert fetch(site.address, sent).status == status


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: demo.loc"])
def test_a_head_that_does_not_come_in_time_is_408(site: Site, begun: bytes) -> None:
    with at_most(5.0):
        assert told(site.visit(begun).sock) == (408, "request_timeout")


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_visitor_that_leaves_before_its_head_is_complete_leaves_nothing(site: Site, begun: bytes, how: str) -> None:
    visitor = site.visit(begun)
    wait_until(lambda: site.server.stats().visitors == 1)
    end(visitor.sock, how)
    wait_until(lambda: site.server.stats().visitors == 0 and not site.edge._greenlets)


def test_a_connection_that_fails_at_once_leaves_nothing(site: Site) -> None:
    # Reading a socket without a peer fails as reading from a peer does that the network
    # has lost: with an OSError that is no ConnectionError.
    sock = socket.socket()
    site.edge.accept(sock, "203.0.113.7", 1024)
    assert sock.fileno() == -1
    assert site.server.stats().visitors == 0


def test_a_head_that_has_come_whole_takes_no_greenlet(site: Site) -> None:
    proxy = site.demo.park()
    spawned: list[gevent.Greenlet] = []
    site.edge._greenlets.add = spawned.append
    visitor = site.visit(GET)
    upstream = site.demo.joined(proxy)
    upstream.head()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    assert spawned == []


def test_stopping_drops_who_has_not_said_what_it_wants(site: Site) -> None:
    visitor = site.visit(b"GET /")
    wait_until(lambda: site.server.stats().visitors == 1)
    with at_most(3.0):
        site.server.stop(0.0)
    assert visitor.was_reset() or visitor.waiting() == b""
    assert not site.edge._greenlets


def test_a_visitors_place_is_kept_until_it_has_gone(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.head()
    assert site.server.stats().visitors == 1
    upstream.send(b"x")
    assert read_exactly(visitor.sock, 1) == b"x"
    end(visitor.sock, "RST")
    assert is_reset(upstream.sock)
    wait_until(lambda: site.server.stats().visitors == 0)


def test_websocket_needs_no_help(site: Site) -> None:
    sent = request(HOST, fields="Connection: Upgrade\r\nUpgrade: anything\r\n") + b"early"
    visitor, upstream = site.join(sent)
    assert upstream.exactly(len(sent)) == sent
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert read_head(visitor.sock).startswith(b"HTTP/1.1 101 ")
