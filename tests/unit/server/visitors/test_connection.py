"""localtunnel.server.visitors.connection: the requests of one visitor, one after the other and in their order."""

from collections.abc import Iterator

import gevent
import pytest
from harness import at_most, fetch, parse_response, request, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, running_site
from harness.v3 import end

from localtunnel.server.visitors.exchange import MAX_PIPELINED

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
POST = request(HOST, method="POST", body=b"body")
CLOSE = "Connection: close\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


def answer(upstream: Stream) -> str:
    """Answer a request with its own target, which is returned."""
    asked = upstream.message()
    body = asked.target.encode()
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return asked.target


def told(visitor: Stream) -> tuple[int, str]:
    """Return status and code of the server's own answer, after which the connection ends."""
    response = parse_response(visitor.rest())
    assert response.fields["connection"] == "close"
    return response.status, response.fields["x-localtunnel-error"]


# One after the other.


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_keep_alive(site: Site, bytewise: bool) -> None:
    visitor, upstream = site.join(request(HOST, "/0"))
    assert answer(upstream) == "/0"
    assert visitor.message().body == b"/0"
    for number in range(1, 5):
        asked = request(HOST, f"/{number}")
        visitor.send(*([asked[at : at + 1] for at in range(len(asked))] if bytewise else [asked]))
        assert answer(upstream) == f"/{number}"
        assert visitor.message().body == b"/%d" % number


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_pipelined_requests_are_answered_in_order(site: Site, size: int) -> None:
    """The second reaches the upstream when the first has been answered, however the bytes were cut."""
    sent = b"".join(request(HOST, f"/{number}") for number in range(4))
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    proxy = site.demo.park()
    visitor = site.visit()
    sending = gevent.spawn(visitor.send, *pieces)
    upstream = site.demo.joined(proxy)
    for number in range(4):
        asked = upstream.message()
        assert asked.target == f"/{number}"
        assert upstream.waiting() == b""
        upstream.send(OK)
    sending.get()
    assert [visitor.message().body for _ in range(4)] == [b"ok"] * 4


def test_bodies_of_pipelined_requests_stay_with_their_own(site: Site) -> None:
    chunked = request(HOST, "/b", "POST", "Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n"
    proxies = [site.demo.park() for _ in range(3)]
    visitor = site.visit(request(HOST, "/a", "POST", body=b"GET / HTTP/1.1\r\n\r\n") + chunked + request(HOST, "/c"))
    bodies = []
    for target in ("/a", "/b"):
        upstream = site.demo.joined(proxies.pop())
        asked = upstream.message()
        bodies.append((asked.target, asked.body))
        assert asked.target == target
        upstream.send(OK)
    upstream = site.demo.joined(proxies.pop())
    assert bodies == [("/a", b"GET / HTTP/1.1\r\n\r\n"), ("/b", b"abc")]
    assert answer(upstream) == "/c"
    assert [visitor.message().body for _ in range(3)] == [b"ok", b"ok", b"/c"]


def test_a_thousand_pipelined_requests(site: Site) -> None:
    proxy = site.demo.park()
    visitor = site.visit()
    sending = gevent.spawn(visitor.send, b"".join(request(HOST, f"/{number}") for number in range(1000)))
    upstream = site.demo.joined(proxy)
    serving = gevent.spawn(lambda: [answer(upstream) for _ in range(1000)])
    with at_most(10.0):
        assert [visitor.message().body for _ in range(1000)] == [b"/%d" % number for number in range(1000)]
    assert serving.get() == [f"/{number}" for number in range(1000)]
    sending.get()


def test_what_is_held_of_a_flood_is_bounded(site: Site) -> None:
    """With each answer one request leaves, and no more comes in than left."""
    proxy = site.demo.park()
    visitor = site.visit()
    flooding = gevent.spawn(flood, visitor)
    upstream = site.demo.joined(proxy)
    (connection,) = site.edge.connections
    most = 0
    for _ in range(200):
        answer(upstream)
        visitor.message()
        most = max(most, len(connection.held))
    assert MAX_PIPELINED < most < MAX_PIPELINED + 300_000
    flooding.kill()


def flood(visitor: Stream) -> None:
    while True:
        visitor.send(GET * 1000)


def test_after_the_last_request_nothing_is_answered(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, "/last", fields=CLOSE) + request(HOST, "/after"))
    assert answer(upstream) == "/last"
    assert visitor.message().body == b"/last"
    assert visitor.rest() == b""
    assert upstream.waiting() == b""


# Several hosts on one connection.


@pytest.mark.parametrize("pipelined", [False, True], ids=["one by one", "pipelined"])
def test_each_request_goes_to_its_own_host_and_no_byte_to_another(site: Site, pipelined: bool) -> None:
    other = site.another("other")
    asked = [request(host, f"/{host}/{number}") for number in range(3) for host in (HOST, "other.localhost")]
    parked = {HOST: site.demo.park(), "other.localhost": other.park()}
    streams: dict[str, Stream] = {}
    visitor = site.visit()
    if pipelined:
        visitor.send(b"".join(asked))
    for sent in asked:
        if not pipelined:
            visitor.send(sent)
        host = HOST if HOST.encode() in sent else "other.localhost"
        if host not in streams:
            streams[host] = (site.demo if host == HOST else other).joined(parked[host])
        assert answer(streams[host]).startswith(f"/{host}/")
        for stream in streams.values():
            assert stream.waiting() == b""
    assert [visitor.message().body for _ in asked] == [sent.split()[1] for sent in asked]


def test_a_host_that_is_nobodys_ends_the_connection(site: Site) -> None:
    visitor, upstream = site.join(GET + request("nobody.localhost") + GET)
    answer(upstream)
    assert visitor.message().status == 200
    assert told(visitor) == (404, "tunnel_not_found")
    assert upstream.waiting() == b""


def test_what_is_no_request_ends_the_connection(site: Site) -> None:
    visitor, upstream = site.join(GET + b"GET / HTTP/1.1\r\nHost : demo.localhost\r\n\r\n")
    answer(upstream)
    assert visitor.message().status == 200
    assert told(visitor) == (400, "bad_request")
    assert upstream.waiting() == b""


def test_one_empty_line_between_requests_is_passed_over(site: Site) -> None:
    visitor, upstream = site.join(GET + b"\r\n" + GET)
    for _ in range(2):
        answer(upstream)
        assert visitor.message().status == 200


# Time.


def test_an_idle_connection_is_closed_and_not_before() -> None:
    with running_site("0.3", timeouts={"keep_alive": 1.0, "head": 0.1}) as site:
        visitor, upstream = site.join(GET)
        answer(upstream)
        visitor.message()
        # Longer than a head may take, and far less than it may be idle.
        gevent.sleep(0.15)
        visitor.send(POST)
        upstream = site.demo.joined(site.demo.peer.park())
        answer(upstream)
        visitor.message()
        with at_most(3.0):
            assert visitor.rest() == b""
        assert len(site.edge.connections.idle) == len(site.edge.connections.heads) == 0


@pytest.mark.parametrize("begun", [b"G", GET[:-1]])
def test_a_later_head_has_its_deadline_too(begun: bytes) -> None:
    with running_site("0.3", timeouts={"keep_alive": 60, "head": 0.1}) as site:
        visitor, upstream = site.join(GET)
        answer(upstream)
        visitor.message()
        visitor.send(begun)
        with at_most(3.0):
            assert told(visitor) == (408, "request_timeout")


def test_a_head_that_has_been_begun_behind_another_has_its_deadline_too() -> None:
    with running_site("0.3", timeouts={"keep_alive": 60, "head": 0.1}) as site:
        visitor, upstream = site.join(GET + b"GET /next")
        answer(upstream)
        visitor.message()
        with at_most(3.0):
            assert told(visitor) == (408, "request_timeout")


def test_no_deadline_of_the_edge_is_about_the_upstream() -> None:
    with running_site("0.3", timeouts={"keep_alive": 0.05, "head": 0.05, "pool_wait": 0.05}) as site:
        visitor, upstream = site.join(GET)
        upstream.message()
        gevent.sleep(0.2)
        upstream.send(OK)
        assert visitor.message().body == b"ok"


# The end of either side.


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_visitor_that_leaves_between_two_requests_leaves_nothing(site: Site, how: str) -> None:
    visitor, upstream = site.join(GET)
    answer(upstream)
    visitor.message()
    end(visitor.sock, how)
    wait_until(lambda: site.server.stats().visitors == 0 and not site.edge.connections)


def test_stopping_closes_who_is_idle_at_once_and_lets_an_exchange_finish(site: Site) -> None:
    fresh = site.visit()
    within_a_head = site.visit(b"GET /")
    idle, upstream = site.join(GET)
    answer(upstream)
    idle.message()
    proxy = site.demo.park()
    busy = site.visit(POST + GET)
    working = site.demo.joined(proxy)
    working.message()
    stopping = gevent.spawn(site.server.stop, 30.0)
    with at_most(5.0):
        for visitor in (fresh, within_a_head, idle):
            # It may be a reset, where bytes were unread.
            visitor.was_reset()
    assert not stopping.dead
    working.send(OK)
    assert busy.message().body == b"ok"
    assert busy.rest() == b"", "and the next request is not begun"
    with at_most(5.0):
        stopping.get()


def test_the_grace_has_an_end(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    with at_most(5.0):
        site.server.stop(0.05)
    assert visitor.was_reset()
    assert upstream.was_reset()


def test_a_client_that_has_left_is_no_obstacle(site: Site) -> None:
    """The connection is the visitor's, and it may go on to other tunnels."""
    other = site.another("other")
    visitor, upstream = site.join(GET)
    answer(upstream)
    visitor.message()
    site.demo.peer.control.close()
    wait_until(lambda: site.demo.tunnel is None or site.demo.tunnel.ended)
    proxy = other.park()
    visitor.send(request("other.localhost", "/on"))
    assert answer(other.joined(proxy)) == "/on"
    assert visitor.message().body == b"/on"
    expected = 404 if site.demo.version == "0.2" else 503
    assert fetch(site.address, GET).status == expected
