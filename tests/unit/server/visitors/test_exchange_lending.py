"""localtunnel.http.lending: which joined connections another visitor may
have, and the look before one gets it.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent import socket
from harness import CAP, LOOPBACK, Address, parse_response, request, running_server, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, recycling_site, running_site
from harness.peers import read_message
from harness.tls import tls_connect
from harness.v3 import end, got, ready

from localtunnel.protocol.wire.stream import END, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
CHUNKED = "Transfer-Encoding: chunked\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


def kept(site: Site) -> int:
    return len(site.demo.tunnel.kept)


def status(line: str, fields: str = "Content-Length: 0\r\n") -> bytes:
    return f"HTTP/1.1 {line}\r\n{fields}\r\n".encode()


def have(site: Site, asked: bytes, answer: bytes, *, head_only: bool = False) -> tuple[Stream, Stream]:
    """Have one exchange, and return both ends once the visitor has its final answer."""
    visitor, upstream = site.join(asked)
    upstream.message()
    upstream.send(answer)
    while visitor.message("HEAD" if head_only else "GET").status < 200:
        pass
    return visitor, upstream


# After which exchange.

LENT = {
    "GET": (GET, OK),
    "GET, length 0": (request(HOST, fields="Content-Length: 0\r\n"), OK),
    "HTTP/1.0": (GET.replace(b"HTTP/1.1", b"HTTP/1.0"), OK),
    "DELETE": (request(HOST, method="DELETE"), OK),
    "OPTIONS": (request(HOST, method="OPTIONS"), OK),
    "TRACE": (request(HOST, method="TRACE"), OK),
    "chunked": (GET, status("200 OK", CHUNKED) + b"2\r\nok\r\n0\r\n\r\n"),
    "302": (GET, status("302 Found")),
    "401 Basic": (GET, status("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n')),
    "404": (GET, status("404 Not Found")),
    "500": (GET, status("500 Internal Server Error")),
}

CLOSED = {
    "a body": (request(HOST, method="POST", body=b"body"), OK),
    "a body of a GET": (request(HOST, body=b"body"), OK),
    "chunks": (request(HOST, method="POST", fields=CHUNKED) + b"1\r\na\r\n0\r\n\r\n", OK),
    "chunks of a DELETE": (request(HOST, method="DELETE", fields=CHUNKED) + b"1\r\na\r\n0\r\n\r\n", OK),
    "no chunks, announced": (request(HOST, fields=CHUNKED) + b"0\r\n\r\n", OK),
    "POST without a body": (request(HOST, method="POST"), OK),
    "PUT without a body": (request(HOST, method="PUT", fields="Content-Length: 0\r\n"), OK),
    "a method of nobody": (request(HOST, method="get"), OK),
    "Expect": (request(HOST, fields="Expect: 100-continue\r\n"), OK),
    "a declined upgrade": (request(HOST, fields=UPGRADE), OK),
    "HEAD": (request(HOST, method="HEAD"), status("200 OK", "Content-Length: 5\r\n")),
    "204": (GET, status("204 No Content", "")),
    "205": (GET, status("205 Reset Content")),
    "304": (GET, status("304 Not Modified", "")),
    "an interim answer": (GET, status("103 Early Hints", "Link: </a>\r\n") + OK),
    "an extension": (GET, status("200 OK", CHUNKED) + b"2;a\r\nok\r\n0\r\n\r\n"),
    "a trailer": (GET, status("200 OK", CHUNKED) + b"2\r\nok\r\n0\r\nX: y\r\n\r\n"),
    **{f"{code}": (GET, status(f"{code} No")) for code in (400, 408, 411, 413, 414, 417, 431, 501, 505)},
}


@pytest.mark.parametrize("case", LENT)
def test_a_connection_on_which_nothing_can_be_left_is_lent(site: Site, case: str) -> None:
    _, upstream = have(site, *LENT[case])
    assert kept(site) == 1
    site.visit(request(HOST, "/second"))
    assert upstream.message().target == "/second"


@pytest.mark.parametrize("case", CLOSED)
def test_any_other_ends_and_the_next_visitor_gets_a_fresh_one(site: Site, case: str) -> None:
    visitor, upstream = have(site, *CLOSED[case], head_only=case == "HEAD")
    assert kept(site) == 0
    assert upstream.rest() == b""
    proxy = site.demo.park()
    visitor.send(request(HOST, "/second"))
    fresh = site.demo.joined(proxy)
    assert fresh.message().target == "/second"
    fresh.send(OK)
    assert visitor.message().body == b"ok", "and the visitor's own connection has stayed"


@pytest.mark.parametrize("case", CLOSED)
def test_where_connections_come_back_it_stays_with_its_visitor(case: str) -> None:
    with recycling_site() as site:
        visitor, upstream = have(site, *CLOSED[case], head_only=case == "HEAD")
        assert kept(site) == 0
        proxy = site.demo.park()
        other = site.visit(request(HOST, "/other"))
        fresh = site.demo.joined(proxy)
        assert fresh.message().target == "/other"
        fresh.send(OK)
        assert other.message().body == b"ok"
        visitor.send(request(HOST, "/second", method="POST", body=b"body"))
        assert upstream.message().target == "/second"


@pytest.mark.parametrize("case", LENT)
def test_there_as_well_one_on_which_nothing_can_be_left_is_lent(case: str) -> None:
    with recycling_site() as site:
        _, upstream = have(site, *LENT[case])
        assert kept(site) == 1
        site.visit(request(HOST, "/second"))
        assert upstream.message().target == "/second"


def narrow_connect(address: Address) -> socket.socket:
    """Connect with little room for what the server sends."""
    sock = socket.socket()
    sock.settimeout(CAP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(address)
    return sock


def test_nor_is_one_lent_whose_answer_began_before_its_request_had_been_sent() -> None:
    """A head that is still on its way when the answer comes: the rest of it would be the next request."""
    with running_site("0.3", {"connect": narrow_connect}) as site:
        proxy = site.demo.park()
        parked = site.demo.tunnel._pool._queue.queue[-1]
        fields = "".join(f"X-{number}: {'x' * 1000}\r\n" for number in range(62))
        visitor = site.visit(request(HOST, fields=fields))
        number = read_message(proxy)["proxy"]["id"]
        parked.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        proxy.sendall(got(number) + ready(number))
        (exchange,) = site.server.joins
        carrier = wait_until(lambda: exchange._carrier, what="the exchange has begun")
        assert carrier.backlog
        upstream = Stream(proxy)
        upstream.send(OK[:-1])
        wait_until(lambda: exchange.sent, what="the answer has begun")
        upstream.head()
        assert not carrier.backlog
        upstream.send(OK[-1:])
        assert visitor.message().body == b"ok"
        assert kept(site) == 0
        assert upstream.rest() == b""


# The look before it is lent.

SURPLUS = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"


def plain_surplus(proxy: Any) -> None:
    proxy.sendall(SURPLUS)


def a_byte(proxy: Any) -> None:
    proxy.sendall(b"H")


def fin(proxy: Any) -> None:
    proxy.shutdown(socket.SHUT_WR)


def rst(proxy: Any) -> None:
    end(proxy, "RST")


def take_at_once(site: Site, upstream: Stream, say: Callable[[Any], None]) -> Any:
    """Have the upstream say something, and take a connection before the hub can notice: no watcher has run yet."""
    say(upstream.sock)
    return site.demo.tunnel.kept.take()


@pytest.mark.parametrize("say", [plain_surplus, a_byte, fin, rst])
def test_whatever_has_come_on_a_kept_connection_closes_it(site: Site, say: Callable[[Any], None]) -> None:
    _, upstream = have(site, GET, OK)
    assert take_at_once(site, upstream, say) is None
    assert kept(site) == 0
    if say is not rst:
        upstream.was_reset()


def test_then_another_is_taken(site: Site) -> None:
    visitors, upstreams = zip(*[site.join(GET) for _ in range(3)], strict=True)
    for visitor, upstream in zip(visitors, upstreams, strict=True):
        upstream.message()
        upstream.send(OK)
        visitor.message()
    fin(upstreams[1].sock)
    carrier = take_at_once(site, upstreams[2], plain_surplus)
    assert carrier is not None
    assert kept(site) == 0
    site.demo.tunnel.kept.keep(carrier)
    site.visit(request(HOST, "/second"))
    assert upstreams[0].message().target == "/second"


@pytest.mark.parametrize("say", [plain_surplus, a_byte, fin])
def test_a_pinned_connection_is_looked_at_as_well(site: Site, say: Callable[[Any], None]) -> None:
    _, upstream = have(site, request(HOST, fields="Authorization: NTLM ann\r\n"), OK)
    (connection,) = site.edge.connections
    asked = connection._retained
    say(upstream.sock)
    head = type("Head", (), {"has_intermediary": False})
    assert connection.take_retained(asked.kept, head, held=True) is None
    assert connection._retained is None
    upstream.was_reset()


def a_chunk(proxy: Any) -> None:
    proxy.sendall(chunked(SURPLUS))


def half_a_length(proxy: Any) -> None:
    proxy.sendall(chunked(SURPLUS)[:2])


def a_length(proxy: Any) -> None:
    proxy.sendall(chunked(SURPLUS)[:4])


def the_mark(proxy: Any) -> None:
    proxy.sendall(END)


def half_a_record(proxy: Any) -> None:
    os.write(proxy.fileno(), b"\x17\x03\x03\x00\x40half")


def an_empty_look(proxy: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("say", "goes_on"),
    [
        (an_empty_look, True),
        (a_chunk, False),
        (half_a_length, False),
        (a_length, False),
        (the_mark, False),
        (half_a_record, False),
        (rst, False),
    ],
    ids=["nothing", "a chunk", "half a length", "a length", "the mark", "half a record", "RST"],
)
def test_over_tls_a_part_of_anything_counts(say: Callable[[Any], None], goes_on: bool) -> None:
    with running_server() as server:
        site = Site(server, "0.3", connect=tls_connect)
        proxy = site.demo.park()
        visitor = site.visit(GET)
        number = read_message(proxy)["proxy"]["id"]
        proxy.sendall(got(number) + ready(number))
        read_chunk(proxy)
        proxy.sendall(chunked(OK))
        assert visitor.message().body == b"ok"
        assert kept(site) == 1
        say(proxy)
        carrier = site.demo.tunnel.kept.take()
        assert (carrier is not None) == goes_on
        if carrier is not None:
            site.demo.tunnel.kept.keep(carrier)
        site.close()


def read_chunk(proxy: Any) -> bytes:
    """Return the next chunk of a stream over TLS."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        data += proxy.recv(65536)
    return data[4:]


# Logins, where a connection has one visitor and where it has many.

LOGIN = "Authorization: NTLM ann\r\n"


def login_is_pinned(site: Site, asked: bytes, answer: bytes = OK) -> bool:
    """Log in with ``asked``, and say whether the connection is the visitor's own then; it ends otherwise."""
    visitor, upstream = have(site, asked, answer)
    assert kept(site) == 0
    (connection,) = site.edge.connections
    if connection._retained is None:
        assert upstream.rest() == b""
        return False
    visitor.send(GET)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    return True


@pytest.mark.parametrize(
    "fields",
    [
        LOGIN,
        "Authorization: Basic eDp5\r\n" + LOGIN,
        LOGIN + "Authorization: Basic eDp5\r\n",
        "authorization:  negotiate YII=\r\n",
        "Authorization: Basic eDp5, NTLM ann\r\n",
        "Authorization: Kerberos YII=\r\n",
        "Authorization: CredSSP YII=\r\n",
    ],
    ids=["NTLM", "second", "first", "Negotiate", "in a list", "Kerberos", "CredSSP"],
)
def test_any_login_field_counts(site: Site, fields: str) -> None:
    assert login_is_pinned(site, request(HOST, fields=fields))


@pytest.mark.parametrize("challenge", ["NTLM TlRMTVNTUAACAAAA", "Basic realm=x\r\nWWW-Authenticate: Negotiate"])
def test_a_step_of_a_login_in_the_answer_counts(site: Site, challenge: str) -> None:
    answer = status("401 Unauthorized", f"WWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n")
    assert login_is_pinned(site, GET, answer)


def test_behind_a_trusted_proxy_nothing_is_pinned() -> None:
    """Whoever comes next on the proxy's connection would be the one who has logged in."""
    with running_site("0.3", trusted_proxies=[LOOPBACK]) as site:
        assert not login_is_pinned(site, request(HOST, fields=f"{LOGIN}X-Forwarded-For: 203.0.113.7\r\n"))
    with running_site("0.3", trusted_proxies=[LOOPBACK]) as site:
        assert not login_is_pinned(site, request(HOST, fields=LOGIN))


def test_a_stranger_behind_the_same_proxy_is_not_the_one_who_logged_in() -> None:
    with running_site("0.3", trusted_proxies=[LOOPBACK]) as site:
        proxy, first = have(site, request(HOST, fields=LOGIN), OK)
        parked = site.demo.park()
        proxy.send(request(HOST, "/stranger", fields="X-Forwarded-For: 203.0.113.8\r\n"))
        second = site.demo.joined(parked)
        assert second.message().target == "/stranger"
        assert first.rest() == b""


SIGNS = [
    "Via: 1.1 proxy\r\n",
    "Forwarded: for=203.0.113.7\r\n",
    "X-Forwarded-For: 203.0.113.7\r\n",
    "X_Forwarded_For: 203.0.113.7\r\n",
    "X-Real-IP: 203.0.113.7\r\n",
    "CDN-Loop: cdn\r\n",
    "Max-Forwards: 3\r\n",
    "Proxy-Authorization: NTLM bob\r\n",
    "Proxy-Connection: keep-alive\r\n",
]


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_of_a_proxy_that_is_not_trusted_is_enough(site: Site, sign: str) -> None:
    assert not login_is_pinned(site, request(HOST, fields=LOGIN + sign))


@pytest.mark.parametrize("begun", [b"GET http://demo.localhost/ HTTP/1.1", b"GET / HTTP/1.0\r\nConnection: keep-alive"])
def test_so_is_a_request_that_only_proxies_send(site: Site, begun: bytes) -> None:
    assert not login_is_pinned(site, request(HOST, fields=LOGIN).replace(b"GET / HTTP/1.1", begun))


def test_a_sign_in_a_later_request_ends_what_was_pinned(site: Site) -> None:
    visitor, upstream = have(site, request(HOST, fields=LOGIN), OK)
    proxy = site.demo.park()
    visitor.send(request(HOST, "/stranger", fields="Via: 1.1 proxy\r\n"))
    fresh = site.demo.joined(proxy)
    assert fresh.message().target == "/stranger"
    assert upstream.rest() == b""
    fresh.send(OK)
    assert visitor.message().body == b"ok"


def test_what_was_pinned_stays_with_its_visitor_after_a_body(site: Site) -> None:
    visitor, upstream = have(site, request(HOST, fields=LOGIN), OK)
    for _ in range(2):
        visitor.send(request(HOST, method="POST", body=b"body"))
        assert upstream.message().body == b"body"
        upstream.send(OK)
        assert visitor.message().body == b"ok"
    assert kept(site) == 0


def test_a_chunk_extension_of_a_request_is_refused(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields=CHUNKED))
    upstream.head()
    visitor.send(b"4;x=y\r\nbody\r\n0\r\n\r\n")
    assert parse_response(visitor.rest()).status == 400
    assert upstream.was_reset()
