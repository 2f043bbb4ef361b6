"""localtunnel.server.tunnels.kept: which joined connections are used again, for whom, and when they are let go."""

import base64
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from gevent.lock import BoundedSemaphore
from harness import at_most, parse_response, request, running_client, running_upstream, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, running_site
from harness.v3 import end
from harness.waiting import CAP

from localtunnel.server.tunnels.kept import KEPT_IDLE

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
POST = request(HOST, method="POST", body=b"body")


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


def keep(site: Site, asked: bytes = GET) -> tuple[Stream, Stream]:
    """Have one exchange, after which its connection is kept or pinned; returns both ends."""
    visitor, upstream = site.join(asked)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    return visitor, upstream


def kept(site: Site) -> int:
    return len(site.demo.tunnel.kept)


def test_the_next_request_takes_it_whoever_sends_it(site: Site) -> None:
    _, upstream = keep(site)
    assert kept(site) == 1
    other = site.visit(request(HOST, "/second"))
    assert upstream.message().target == "/second"
    assert kept(site) == 0
    upstream.send(OK)
    assert other.message().body == b"ok"
    assert kept(site) == 1


def test_the_newest_is_taken_first(site: Site) -> None:
    old_visitor, old = site.join(GET)
    new_visitor, new = site.join(GET)
    for upstream, visitor in ((old, old_visitor), (new, new_visitor)):
        upstream.message()
        upstream.send(OK)
        visitor.message()
    assert kept(site) == 2
    site.visit(request(HOST, "/second"))
    assert new.message().target == "/second"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_a_method_that_may_be_repeated_takes_it(site: Site, method: str) -> None:
    visitor, upstream = keep(site)
    visitor.send(request(HOST, method=method))
    assert upstream.message().start.startswith(method)


@pytest.mark.parametrize(
    "asked",
    [
        POST,
        request(HOST, method="POST"),
        request(HOST, method="PATCH"),
        request(HOST, method="get"),
        request(HOST, method="PUT", fields="Content-Length: 4\r\n"),
    ],
    ids=["POST", "empty POST", "PATCH", "get", "a PUT whose body has not come"],
)
def test_any_other_goes_on_a_fresh_connection(site: Site, asked: bytes) -> None:
    visitor, upstream = keep(site)
    proxy = site.demo.park()
    visitor.send(asked)
    assert site.demo.joined(proxy).head().target == "/"
    assert upstream.rest() == b"", "and the oldest kept one makes room for it"


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_one_that_the_upstream_has_closed_is_gone(site: Site, how: str) -> None:
    _, upstream = keep(site)
    end(upstream.sock, how)
    wait_until(lambda: kept(site) == 0)


def test_one_on_which_the_upstream_says_more_is_closed(site: Site) -> None:
    _, upstream = keep(site)
    upstream.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    wait_until(lambda: kept(site) == 0)
    assert upstream.was_reset()


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_request_that_meets_its_closing_is_repeated_once(site: Site, how: str) -> None:
    visitor, upstream = keep(site)
    first = site.demo.park()
    visitor.send(request(HOST, "/again"))
    assert upstream.message().target == "/again"
    end(upstream.sock, how)
    fresh = site.demo.joined(first)
    assert fresh.message().target == "/again"
    second = site.demo.park()
    if site.demo.version == "0.3":
        end(fresh.sock, how)
        assert parse_response(visitor.rest()).fields["x-localtunnel-error"] == "upstream_closed"
        assert Stream(second).waiting() == b""
    else:
        fresh.send(OK)
        assert visitor.message().body == b"ok"


@pytest.mark.parametrize(
    ("begun", "error"), [(b"H", b"upstream_invalid"), (b"HTTP/1.1 100 Continue\r\n\r\n", b"upstream_closed")]
)
def test_a_request_is_not_repeated_once_an_answer_has_begun(site: Site, begun: bytes, error: bytes) -> None:
    visitor, upstream = keep(site)
    spare = site.demo.park()
    visitor.send(GET)
    upstream.message()
    upstream.send(begun)
    upstream.close()
    assert error in visitor.rest()
    assert Stream(spare).waiting() == b""


def test_in_0_3_a_request_is_not_repeated_once_a_client_has_taken_it() -> None:
    with running_site("0.3") as site:
        spare = site.demo.park()
        visitor, upstream = site.join(GET)
        upstream.message()
        upstream.close()
        assert parse_response(visitor.rest()).fields["x-localtunnel-error"] == "upstream_closed"
        assert Stream(spare).waiting() == b""


def test_in_0_2_a_dead_fresh_connection_is_tried_again_once_for_what_may_be_repeated() -> None:
    """Its client says nothing on an assignment, so that one that never arrived looks the same."""
    with running_site("0.2") as site:
        second, first = site.demo.park(), site.demo.park()
        visitor = site.visit(GET)
        site.demo.joined(first).close()
        upstream = site.demo.joined(second)
        upstream.message()
        upstream.send(OK)
        assert visitor.message().body == b"ok"


def test_it_is_not_kept_for_longer_than_a_moment(site: Site) -> None:
    _, upstream = keep(site)
    with at_most(KEPT_IDLE + CAP, "letting it go"):
        assert upstream.rest() == b""
    assert kept(site) == 0


def test_the_end_of_the_tunnel_lets_it_go(site: Site) -> None:
    other_visitor, other = site.join(GET)
    other.message()
    visitor, upstream = keep(site)
    site.demo.peer.control.close()
    assert upstream.rest() == b""
    other.send(OK)
    assert other_visitor.message().body == b"ok"
    assert other.rest() == b"", "and nothing is kept any more"
    assert visitor.waiting() == b""


# Logins of a connection.


def logging_in(scheme: str) -> bytes:
    token = base64.b64encode(b"NTLMSSP").decode()
    return request(HOST, fields=f"Authorization: {scheme} {token}\r\n")


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "negotiate"])
def test_a_login_of_the_connection_is_its_visitors_alone(site: Site, scheme: str) -> None:
    """Later requests carry no Authorization field, and still it is this visitor's connection."""
    visitor, upstream = keep(site, logging_in(scheme))
    assert kept(site) == 0
    for asked in (GET, POST, GET):
        visitor.send(asked)
        upstream.message()
        upstream.send(OK)
        assert visitor.message().body == b"ok"
        assert kept(site) == 0
    proxy = site.demo.park()
    other = site.visit(GET)
    fresh = site.demo.joined(proxy)
    fresh.message()
    fresh.send(OK)
    assert other.message().body == b"ok"
    assert upstream.waiting() == b""


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_login_of_the_request_is_no_login_of_the_connection(site: Site, scheme: str) -> None:
    keep(site, logging_in(scheme))
    assert kept(site) == 1


def test_a_login_ends_with_its_visitor(site: Site) -> None:
    visitor, upstream = keep(site, logging_in("NTLM"))
    visitor.close()
    assert upstream.rest() == b""


def test_a_login_ends_with_its_upstream_and_the_visitor_goes_on(site: Site) -> None:
    visitor, upstream = keep(site, logging_in("NTLM"))
    upstream.close()
    (connection,) = site.edge.connections
    wait_until(lambda: connection._retained is None)
    proxy = site.demo.park()
    visitor.send(POST)
    fresh = site.demo.joined(proxy)
    fresh.message()
    fresh.send(OK)
    assert visitor.message().body == b"ok"


def test_a_login_is_no_good_for_another_tunnel(site: Site) -> None:
    other = site.another("other")
    visitor, upstream = keep(site, logging_in("NTLM"))
    proxy = other.park()
    visitor.send(request("other.localhost", "/there"))
    there = other.joined(proxy)
    assert there.message().target == "/there"
    there.send(OK)
    visitor.message()
    assert upstream.waiting() == b""
    visitor.send(POST)
    assert upstream.message().start == "POST / HTTP/1.1"


def test_a_second_login_takes_the_place_of_the_first(site: Site) -> None:
    other = site.another("other")
    visitor, upstream = keep(site, logging_in("NTLM"))
    proxy = other.park()
    visitor.send(logging_in("NTLM").replace(HOST.encode(), b"other.localhost"))
    there = other.joined(proxy)
    there.message()
    there.send(OK)
    visitor.message()
    assert upstream.rest() == b""
    visitor.close()
    assert there.rest() == b""


# Upstreams that serve one connection at a time.


def one_at_a_time(sock: socket.socket, turn: BoundedSemaphore, work: float = 0.0) -> None:
    """Serve a connection to its end, and no other meanwhile, as a single-threaded server with keep-alive does."""
    with turn:
        stream = Stream(sock)
        while stream.waiting() or sock.recv(1, socket.MSG_PEEK):
            stream.message()
            gevent.sleep(work)
            stream.send(OK)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_threaded_upstream_serves_visitors_in_parallel(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtunnel.server.tunnels.kept.KEPT_IDLE", 60.0)
    turn = BoundedSemaphore(1)
    with (
        running_site("0.2", legacy="only" if version == "0.2" else True) as site,
        running_upstream(lambda sock: one_at_a_time(sock, turn)) as port,
        running_client(site.address, port, name="single", legacy=version == "0.2"),
    ):
        asked = [request("single.localhost", method=method) for method in ("POST", "GET", "GET")]
        with at_most(CAP, "serving all three, without a wait for what is idle"):
            visitors = [site.visit(each) for each in asked]
            assert [visitor.message().body for visitor in visitors] == [b"ok"] * 3


def test_a_busy_visitor_does_not_keep_a_single_threaded_upstream_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is idle for a moment only, which hardly ever is the moment in which the other is overdue."""
    monkeypatch.setattr("localtunnel.server.tunnels.kept.KEPT_IDLE", 60.0)
    turn = BoundedSemaphore(1)

    def go_on() -> None:
        while True:
            busy.send(request("single.localhost"))
            busy.message()

    with (
        running_site("0.3") as site,
        running_upstream(lambda sock: one_at_a_time(sock, turn, 0.05)) as port,
        running_client(site.address, port, name="single"),
    ):
        busy = site.visit()
        greenlet = gevent.spawn(go_on)
        wait_until(lambda: site.server.stats().requests > 5)
        with at_most(CAP, "serving the other one"):
            other = site.visit(request("single.localhost", method="POST"))
            assert other.message().body == b"ok"
        greenlet.kill()
