"""A visitor's own connection: what carried a body, or is otherwise not safe to lend, serves this visitor's connection.

That is so where connections come back (``server.tunnels.returns``): its client then tells how much of a stream has
reached the upstream.
"""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.lock import BoundedSemaphore
from harness import CAP, LOOPBACK, at_most, parse_response, request, running_client, running_upstream, wait_until
from harness.exchanges import HOST, OK, Site, Stream, recycling_site, running_site
from harness.peers import frame, read_message
from harness.tls import tls_connect
from harness.v3 import end, parked

from localtunnel.errors import ClientKicked
from localtunnel.http.lending import OWN, PINNED
from localtunnel.server.tunnels import kept as kept_module
from localtunnel.server.tunnels import returns

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
POST = request(HOST, method="POST", body=b"body")
LOGIN = "Authorization: NTLM ann\r\n"


@pytest.fixture
def site() -> Iterator[Site]:
    with recycling_site() as running:
        yield running


def exchange(visitor: Stream, upstream: Stream, asked: bytes, answer: bytes = OK) -> str:
    """Have one exchange on connections that there are, and return the first line that the upstream got."""
    visitor.send(asked)
    got = upstream.message()
    upstream.send(answer)
    method = asked.split()[0].decode()
    while visitor.message(method).status < 200:
        pass
    return got.start


def post(site: Site, asked: bytes = POST) -> tuple[Stream, Any]:
    """Have a visitor's first exchange on a fresh connection, and return both ends."""
    visitor, upstream = site.join(asked)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    return visitor, upstream


def on_a_fresh_one(site: Site, visitor: Stream, asked: bytes, target: str = "/") -> Stream:
    """Have a request answered on a connection that is parked now."""
    proxy = site.demo.park()
    visitor.send(asked)
    fresh = site.demo.joined(proxy)
    assert fresh.message().target == target
    fresh.send(OK)
    assert visitor.message().body == b"ok"
    return fresh


def owned(site: Site) -> list[Any]:
    """Return the connections that visitors have kept for themselves."""
    return [each._retained for each in site.edge.connections if each._retained is not None]


# What rides on it.


def test_one_post_after_another_rides_on_one_connection(site: Site) -> None:
    visitor, upstream = post(site)
    spare = site.demo.park()
    for number in range(20):
        exchange(visitor, upstream, request(HOST, f"/{number}", method="POST", body=b"body"))
    assert parked(site.server) == 1
    upstream.close()
    wait_until(lambda: owned(site) == [], what="its end has come")
    on_a_fresh_one(site, visitor, POST)
    spare.close()


ASKED = {
    "POST": POST,
    "POST without a body": request(HOST, method="POST"),
    "chunks": request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n") + b"4\r\nbody\r\n0\r\n\r\n",
    "PATCH": request(HOST, method="PATCH", body=b"body"),
    "PUT": request(HOST, method="PUT", body=b"body"),
    "GET": GET,
    "HEAD": request(HOST, method="HEAD"),
    "a method of nobody": request(HOST, method="get"),
}


@pytest.mark.parametrize("case", ASKED)
def test_any_request_that_is_held_whole_rides_on_it(site: Site, case: str) -> None:
    visitor, upstream = post(site)
    answer = OK[:-2] if case == "HEAD" else OK
    for _ in range(2):
        exchange(visitor, upstream, ASKED[case], answer)
        exchange(visitor, upstream, POST)
    assert len(site.demo.tunnel.kept) == 0, "and it is lent to nobody after that"


@pytest.mark.parametrize("case", ["HEAD", "chunks", "POST without a body", "a method of nobody"])
def test_what_is_not_safe_to_lend_makes_it_the_visitors_own(site: Site, case: str) -> None:
    visitor, upstream = site.join(ASKED[case])
    upstream.message()
    upstream.send(OK[:-2] if case == "HEAD" else OK)
    visitor.message("HEAD" if case == "HEAD" else "GET")
    (carrier,) = owned(site)
    assert carrier.fate is OWN
    exchange(visitor, upstream, POST)


@pytest.mark.parametrize(
    "asked",
    [
        request(HOST, method="POST", fields="Content-Length: 4\r\n"),
        request(HOST, method="PUT", fields="Content-Length: 4\r\n"),
        request(HOST, method="POST", fields=f"X: {'x' * 9000}\r\n", body=b"body"),
        request(HOST, method="POST", body=b"x" * 9000),
    ],
    ids=["body to come", "PUT, body to come", "large head", "large body"],
)
def test_a_request_that_cannot_go_out_again_takes_a_fresh_one_in_its_place(site: Site, asked: bytes) -> None:
    visitor, upstream = post(site)
    proxy = site.demo.park()
    visitor.send(asked)
    fresh = site.demo.joined(proxy)
    fresh.head()
    site.recycle(upstream)
    if not asked.endswith((b"body", b"x")):
        visitor.send(b"body")
        assert fresh.exactly(4) == b"body"
    fresh.send(OK)
    assert visitor.message().body == b"ok"
    exchange(visitor, fresh, POST)


# Whose it is.


@pytest.mark.parametrize("asked", [GET, POST], ids=["GET", "POST"])
def test_another_visitor_never_gets_it(site: Site, asked: bytes) -> None:
    visitor, upstream = post(site)
    exchange(visitor, upstream, GET)
    other = site.visit()
    fresh = on_a_fresh_one(site, other, asked)
    exchange(visitor, upstream, POST)
    exchange(other, fresh, asked)


def test_nor_does_the_same_visitors_second_connection(site: Site) -> None:
    post(site)
    site.demo.park()
    assert site.demo.tunnel.kept.take() is None
    second = site.visit()
    on_a_fresh_one(site, second, GET)


def test_it_is_no_good_for_another_tunnel(site: Site) -> None:
    other = site.another("other", connect=tls_connect, recycle=True)
    visitor, upstream = post(site)
    proxy = other.park()
    visitor.send(request("other.localhost", "/there"))
    there = other.joined(proxy)
    assert there.message().target == "/there"
    there.send(OK)
    assert visitor.message().body == b"ok"
    exchange(visitor, upstream, POST)


def test_it_comes_back_when_it_has_been_idle_for_a_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "KEPT_IDLE", 0.2)
    visitor, upstream = post(site)
    site.recycle(upstream)
    assert owned(site) == []
    visitor.send(request(HOST, "/again", method="POST", body=b"body"))
    assert site.demo.joined(upstream.sock).message().target == "/again"


def test_each_request_begins_that_moment_anew(site: Site) -> None:
    visitor, upstream = post(site)
    (carrier,) = owned(site)
    begun = site.demo.tunnel.kept._idle._items
    before = begun[carrier]
    exchange(visitor, upstream, POST)
    assert owned(site) == [carrier]
    assert begun[carrier] > before


def test_it_comes_back_when_its_visitor_goes(site: Site) -> None:
    visitor, upstream = post(site)
    visitor.close()
    site.recycle(upstream)
    other, second = site.join(GET, proxy=upstream.sock)
    assert second.message().start == "GET / HTTP/1.1"
    second.send(OK)
    assert other.message().body == b"ok"


def test_the_end_of_the_tunnel_lets_it_go(site: Site) -> None:
    visitor, upstream = post(site)
    site.demo.peer.control.close()
    assert upstream.rest() == b""
    assert visitor.waiting() == b""


@pytest.mark.parametrize("said", [b"H", OK])
def test_what_nobody_asked_for_goes_to_nobody(site: Site, said: bytes) -> None:
    visitor, upstream = post(site)
    upstream.send(said)
    site.recycle(upstream)
    visitor.send(request(HOST, "/again"))
    second = site.demo.joined(upstream.sock)
    assert second.message().target == "/again"
    second.send(OK)
    assert visitor.message().body == b"ok"
    assert visitor.waiting() == b""


# Where the visitor's connection may carry several visitors, or the exchange went wrong.


SIGNS = [
    "Via: 1.1 proxy\r\n",
    "Forwarded: for=203.0.113.7\r\n",
    "X-Forwarded-For: 203.0.113.7\r\n",
    "CDN-Loop: cdn\r\n",
]


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_of_a_proxy_has_it_come_back_at_once(site: Site, sign: str) -> None:
    _, upstream = post(site, request(HOST, method="POST", fields=sign, body=b"body"))
    assert owned(site) == []
    site.recycle(upstream)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_so_does_a_sign_in_a_later_request(site: Site, sign: str, method: str) -> None:
    visitor, upstream = post(site)
    on_a_fresh_one(site, visitor, request(HOST, "/stranger", method=method, fields=sign, body=b"x"), "/stranger")
    site.recycle(upstream)


@pytest.mark.parametrize("fields", ["", "X-Forwarded-For: 203.0.113.7\r\n"])
def test_behind_a_trusted_proxy_nothing_is_owned(fields: str) -> None:
    with recycling_site(trusted_proxies=[LOOPBACK]) as site:
        visitor, upstream = post(site, request(HOST, method="POST", fields=fields, body=b"body"))
        assert owned(site) == []
        site.recycle(upstream)
        visitor.send(POST)
        assert site.demo.joined(upstream.sock).message().body == b"body"


def test_an_answer_before_the_end_of_its_request_closes_it(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields="Content-Length: 4\r\n") + b"bo")
    upstream.head()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    visitor.send(b"dy")
    with pytest.raises((ConnectionResetError, AssertionError)):
        upstream.sock.recv(65536)
        upstream.rest()
    assert owned(site) == []


def test_a_login_is_its_visitors_for_as_long_as_that_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "KEPT_IDLE", 0.1)
    visitor, upstream = post(site, request(HOST, method="POST", fields=LOGIN, body=b"body"))
    gevent.sleep(0.3)
    (carrier,) = owned(site)
    assert carrier.fate is PINNED
    for asked in (GET, POST, request(HOST, method="POST", body=b"x" * 9000)):
        exchange(visitor, upstream, asked)
    assert owned(site) == [carrier]
    visitor.close()
    site.recycle(upstream)


def test_a_login_on_a_connection_of_its_own_stays_as_well(site: Site) -> None:
    visitor, upstream = post(site)
    exchange(visitor, upstream, request(HOST, fields=LOGIN))
    gevent.sleep(1.2 * kept_module.KEPT_IDLE)
    exchange(visitor, upstream, POST)


# An upstream that has closed meanwhile.


def ask_again(site: Site, asked: bytes = POST) -> tuple[Stream, Any, int]:
    """Send a request on the visitor's own connection whose upstream has closed.

    Returns the visitor, the client's end, and how many bytes had gone out before.
    """
    visitor, upstream = post(site)
    exchange(visitor, upstream, POST)
    (carrier,) = owned(site)
    offset = carrier.offset
    visitor.send(asked)
    upstream.message()
    assert offset > 0
    return visitor, upstream, offset


def test_a_post_of_which_nothing_was_delivered_goes_out_again(site: Site) -> None:
    visitor, upstream, offset = ask_again(site)
    upstream.finish()
    assert upstream.rest() == b""
    upstream.sock.sendall(site.demo.asking_back(delivered=offset))
    second = site.demo.joined(upstream.sock)
    assert second.message().body == b"body"
    second.send(OK)
    assert visitor.message().body == b"ok"
    exchange(visitor, second, POST)


def test_it_may_go_out_on_another_connection(site: Site) -> None:
    visitor, upstream, offset = ask_again(site)
    upstream.finish()
    assert upstream.rest() == b""
    spare = site.demo.park()
    del site.demo.peer.sockets[-1]
    upstream.sock.sendall(site.demo.asking_back(delivered=offset - 1))
    second = site.demo.joined(upstream.sock)
    assert second.message().body == b"body"
    spare.close()
    second.send(OK)
    assert visitor.message().body == b"ok"


def test_so_it_does_where_the_connection_finds_no_place() -> None:
    with recycling_site(quotas={"parked_per_owner": 1}) as site:
        visitor, upstream, offset = ask_again(site)
        spare = site.demo.park()
        upstream.finish()
        assert upstream.rest() == b""
        upstream.sock.sendall(site.demo.asking_back(delivered=offset))
        assert read_message(upstream.sock)["error"] == "limit_reached"
        second = site.demo.joined(spare)
        assert second.message().body == b"body"
        second.send(OK)
        assert visitor.message().body == b"ok"


@pytest.mark.parametrize("more", [1, 10, 1 << 40, None], ids=["a byte", "ten", "many", "it does not say"])
def test_one_of_which_a_byte_may_have_been_delivered_does_not(site: Site, more: int | None) -> None:
    visitor, upstream, offset = ask_again(site)
    upstream.finish()
    assert upstream.rest() == b""
    upstream.sock.sendall(site.demo.asking_back(delivered=None if more is None else offset + more))
    response = parse_response(visitor.rest())
    assert (response.status, response.fields["x-localtunnel-error"]) == (502, "upstream_closed")
    wait_until(lambda: parked(site.server) == 1, what="it has come back all the same")


@pytest.mark.parametrize("how", ["FIN", "RST", "silence", "another message"])
def test_nor_does_one_of_which_the_client_says_nothing(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "ENDED_TIMEOUT", 0.5)
    with recycling_site() as site:
        visitor, upstream, _ = ask_again(site)
        upstream.finish()
        if how == "another message":
            upstream.sock.sendall(frame({"got": 1}))
        elif how != "silence":
            end(upstream.sock, how)
        assert b"upstream_closed" in visitor.rest()


def test_a_get_goes_out_again_without_a_question(site: Site) -> None:
    visitor, upstream, _ = ask_again(site, GET)
    proxy = site.demo.park()
    upstream.finish()
    fresh = site.demo.joined(proxy)
    assert fresh.message().start == "GET / HTTP/1.1"
    fresh.send(OK)
    assert visitor.message().body == b"ok"
    assert upstream.rest() == b""


def test_a_visitor_that_goes_while_the_client_is_asked_is_waited_for_by_nobody(site: Site) -> None:
    visitor, upstream, offset = ask_again(site)
    upstream.finish()
    assert upstream.rest() == b""
    end(visitor.sock, "RST")
    wait_until(lambda: not site.server.joins)
    upstream.sock.sendall(site.demo.asking_back(delivered=offset))
    wait_until(lambda: parked(site.server) == 1)


@pytest.mark.parametrize("how", ["gone", "revoked", "stopped"])
def test_the_end_of_the_tunnel_while_the_client_is_asked(site: Site, how: str) -> None:
    visitor, upstream, _ = ask_again(site)
    upstream.finish()
    assert upstream.rest() == b""
    if how == "gone":
        site.demo.peer.control.close()
    elif how == "revoked":
        site.demo.tunnel.revoke(ClientKicked("Enough."))
    else:
        site.server.stop()
    if how == "gone":
        assert b"upstream_closed" in visitor.rest()
    else:
        visitor.was_reset()
    wait_until(lambda: not site.server.joins)


# Upstreams that serve one connection at a time.


def one_at_a_time(sock: socket.socket, turn: BoundedSemaphore, work: float = 0.0) -> None:
    """Serve a connection to its end, and no other meanwhile, as a single-threaded server with keep-alive does."""
    with turn:
        stream = Stream(sock)
        while stream.waiting() or sock.recv(1, socket.MSG_PEEK):
            stream.message()
            gevent.sleep(work)
            stream.send(OK)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_idle_one_does_not_keep_such_an_upstream(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "KEPT_IDLE", 60.0)
    turn = BoundedSemaphore(1)
    with (
        running_site("0.3") as site,
        running_upstream(lambda sock: one_at_a_time(sock, turn)) as port,
        running_client(site.address, port, name="single"),
    ):
        first = site.visit(request("single.localhost", method="POST", body=b"body"))
        assert first.message().body == b"ok"
        assert len(owned(site)) == 1
        with at_most(CAP, "serving the other one"):
            other = site.visit(request("single.localhost", method=method))
            assert other.message().body == b"ok"


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "in use"])
def test_no_other_has_to_go_where_one_was_idle(idle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a request that is late, one connection is given up: an idle one, or else the next that is to be kept."""
    monkeypatch.setattr(kept_module, "KEPT_IDLE", 60.0)
    monkeypatch.setattr(kept_module, "OVERDUE", 60.0)
    with recycling_site() as site:
        visitor, upstream = post(site)
        if not idle:
            visitor.send(GET)
            upstream.message()
        _, silent = site.join(GET)
        silent.message()
        kept = site.demo.tunnel.kept
        wait_until(lambda: len(kept._unanswered) == 1, what="the wait for its answer has begun")
        (late,) = kept._unanswered
        kept._overdue(late)
        assert owned(site) == []
        other, next_one = site.join(GET)
        next_one.message()
        next_one.send(OK)
        assert other.message().body == b"ok"
        assert len(kept) == idle


def test_nor_does_one_in_use_for_long() -> None:
    """It is idle for a moment only, which hardly ever is the moment in which the other is overdue."""
    turn = BoundedSemaphore(1)

    def go_on() -> None:
        while True:
            busy.send(request("single.localhost", method="POST", body=b"body"))
            busy.message()

    with (
        running_site("0.3") as site,
        running_upstream(lambda sock: one_at_a_time(sock, turn, 0.05)) as port,
        running_client(site.address, port, name="single"),
    ):
        busy = site.visit()
        greenlet = gevent.spawn(go_on)
        try:
            wait_until(lambda: site.server.stats().requests > 5)
            with at_most(CAP, "serving the other one"):
                other = site.visit(request("single.localhost", method="POST"))
                assert other.message().body == b"ok"
        finally:
            greenlet.kill()
