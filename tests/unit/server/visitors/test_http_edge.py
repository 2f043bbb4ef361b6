"""localtunnel.server.visitors.http_edge: what is decided about every request before a tunnel has it."""

import base64
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from harness import CAP, at_most, fetch, parse_response, read_message, read_to_end, request, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, running_site
from harness.messages import Message, messages, parameters
from harness.v3 import failed, got, ready
from harness.web import Response

from localtunnel.net.flow.buffer import FIRST_PIECE
from localtunnel.server.limits import turns
from localtunnel.server.visitors import connections

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
PASSWORD = f"Authorization: Basic {base64.b64encode(b'ann:secret').decode()}\r\n"
FORGED = "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX_Real_IP: 1.2.3.4\r\nConnection: Host, Cookie\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


def told(visitor: Stream) -> tuple[int, str]:
    """Return status and code of the server's own answer, after which the connection ends."""
    response = parse_response(visitor.rest())
    assert response.fields["connection"] == "close"
    return response.status, response.fields["x-localtunnel-error"]


# Smuggling.

INVALID = messages("invalid/requests")
READ_AT_ONCE = [message for message in INVALID if not message.fails_in_body or len(GET + message.data) <= FIRST_PIECE]
"""Those in which what is wrong is read together with the head, so that nothing has gone out yet."""


@parameters(READ_AT_ONCE)
@pytest.mark.parametrize("first", [b"", GET], ids=["first", "behind another"])
def test_an_invalid_request_is_refused_and_no_byte_of_it_reaches_an_upstream(message: Message, first: bytes) -> None:
    """The tunnel is the one that the request names, or would be if it were read more kindly."""
    with running_site("0.3") as site:
        site.another("other")
        parked = [Stream(tunnel.park()) for tunnel in site.tunnels]
        visitor = site.visit(first + message.data + GET)
        if first:
            upstream = site.demo.joined(parked.pop(0).sock)
            assert upstream.message().head.startswith(b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n")
            upstream.send(OK)
            assert visitor.message().body == b"ok"
            parked.append(upstream)
        assert told(visitor) == (message.expected.get("status", 400), message.expected["error"])
        assert [stream.waiting() for stream in parked] == [b""] * 2


@parameters(INVALID)
def test_an_invalid_request_in_pieces_is_refused(message: Message) -> None:
    """Of one that is found out in its body the beginning has gone, and the upstream is told that it is not all."""
    with running_site("0.2") as site:
        proxy = site.demo.park()
        visitor = site.visit()
        try:
            visitor.send(*message.in_pieces())
        except OSError:
            pytest.fail("the answer must not be lost to a reset")
        assert told(visitor) == (message.expected.get("status", 400), message.expected["error"])
        if message.fails_in_body:
            assert Stream(proxy).was_reset()
        else:
            assert Stream(proxy).waiting() == b""


# Who asks, and for whom.


def test_the_upstream_is_told_who_asks_and_nothing_that_the_visitor_claims(site: Site) -> None:
    sent = request("DEMO.localhost:8000", fields=FORGED + "Cookie: a=b\r\n")
    visitor, upstream = site.join(sent * 2)
    for _ in range(2):
        asked = upstream.message()
        assert b"1.2.3.4" not in asked.head
        assert (asked.fields["host"], asked.fields["cookie"]) == ("DEMO.localhost:8000", "a=b")
        assert asked.fields["x-forwarded-for"] == asked.fields["x-real-ip"] == "127.0.0.1"
        assert (asked.fields["x-forwarded-proto"], asked.fields["x-forwarded-host"]) == ("http", "demo.localhost:8000")
        assert asked.fields["forwarded"] == 'for=127.0.0.1;proto=http;host="demo.localhost:8000"'
        upstream.send(OK)
        visitor.message()


def test_a_public_url_says_by_which_scheme_visitors_come() -> None:
    with running_site("0.3", public_url="https://localhost") as site:
        visitor, upstream = site.join(GET)
        assert upstream.message().fields["x-forwarded-proto"] == "https"
        upstream.send(OK)
        visitor.message()


def test_an_absolute_target_is_made_plain(site: Site) -> None:
    _, upstream = site.join(request(HOST, f"http://{HOST}/a?b"))
    assert upstream.message().target == "/a?b"


# The rules of a tunnel.


def test_every_request_is_held_to_the_rules_of_its_own_tunnel(site: Site) -> None:
    """One connection, pipelined: the first tunnel is open, the second has a password, given once and not again."""
    guarded = site.another("guarded", protect="ann:secret")
    proxies = site.demo.park(), guarded.park()
    secret = request("guarded.localhost", fields=PASSWORD)
    visitor = site.visit(GET + secret + GET + request("guarded.localhost") + GET)
    first, second = site.demo.joined(proxies[0]), Stream(proxies[1])
    first.message()
    first.send(OK)
    second = guarded.joined(second.sock)
    assert "authorization" not in second.message().fields
    second.send(OK)
    first.message()
    first.send(OK)
    assert [visitor.message().status for _ in range(3)] == [200, 200, 200]
    assert told(visitor) == (401, "unauthorized")
    assert first.waiting() == second.waiting() == b""


def test_a_guard_is_asked_before_the_pool(site: Site) -> None:
    """Who may not come in costs no connection, and learns nothing of whether there is one."""
    guarded = site.another("guarded", protect="ann:secret")
    proxy = guarded.park()
    assert fetch(site.address, request("guarded.localhost")).status == 401
    assert Stream(proxy).waiting() == b""


@pytest.mark.parametrize(("source", "status"), [("127.0.0.1", 200), ("127.0.0.2", 403)])
def test_an_address_is_let_in_or_not(source: str, status: int) -> None:
    with running_site("0.3", {"options": {"allow_ip": ["127.0.0.1"]}}) as site:
        visitor = site.visit(GET, source=source)
        if status == 200:
            upstream = site.demo.joined(site.demo.peer.park())
            upstream.message()
            upstream.send(OK)
            assert visitor.message().status == 200
        else:
            assert told(visitor) == (403, "forbidden")


def test_a_preflight_is_answered_and_its_body_is_nobodys_request() -> None:
    fields = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"
    with running_site("0.3", {"options": {"cors": True}}) as site:
        proxy = site.demo.park()
        visitor = site.visit(request(HOST, method="OPTIONS", fields=fields, body=GET))
        answer = visitor.message()
        assert (answer.status, answer.fields["connection"]) == (204, "close")
        assert visitor.rest() == b""
        assert Stream(proxy).waiting() == b""


@pytest.mark.parametrize("fields", [{"protect": "ann:secret"}, {"options": {"allow_ip": ["127.0.0.1"]}}])
def test_in_join_mode_options_are_refused(fields: dict[str, object]) -> None:
    with (
        pytest.raises(AssertionError, match="option_refused"),
        running_site("0.3", fields, edge="join", timeouts={"error_hold": 0.0}) as site,
    ):
        assert "control" in site.demo.peer.reply, site.demo.peer.reply


# The server's own.


def test_the_servers_own_pages_end_the_connection(site: Site) -> None:
    proxy = site.demo.park()
    visitor = site.visit(request("localhost", "/meta/version", method="POST", body=GET) + GET)
    answer = visitor.message()
    assert (answer.status, answer.fields["connection"]) == (405, "close")
    assert visitor.rest() == b""
    assert Stream(proxy).waiting() == b""


def test_an_answer_of_the_servers_own_to_head_has_no_body(site: Site) -> None:
    visitor = site.visit(request("nobody.localhost", method="HEAD"))
    head, _, body = read_to_end(visitor.sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert body == b""


# Turns.


@pytest.mark.parametrize("listen_after", [0.05, 60.0], ids=["listened to", "not yet"])
def test_a_request_that_is_held_back_for_its_tunnels_rate_is_served_later(
    listen_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LISTEN_AFTER", listen_after)
    with running_site("0.3", limits={"tunnel_request_rate": 5.0}) as site:
        visitor, upstream = site.join(GET * 30)
        with at_most(4.0):
            for _ in range(30):
                upstream.message()
                upstream.send(OK)
                assert visitor.message().body == b"ok"
        # None of them waits any more, or is listened to.
        assert len(site.edge.connections.waiting) == 0
        assert len(site.edge.connections.hang_ups) == 0


def test_a_visitor_that_leaves_while_it_is_held_back_leaves_nothing() -> None:
    with running_site("0.3", limits={"tunnel_request_rate": 1.0}) as site:
        visitors = [site.visit(GET) for _ in range(6)]
        wait_until(lambda: len(site.server.joins) == 5)
        for visitor in visitors:
            visitor.close()
        for _ in range(6):
            site.demo.peer.park()
        wait_until(lambda: site.server.stats().requests == 6)


def test_with_two_busy_tunnels_nobody_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUANTUM", 1)
    with running_site("0.3") as site:
        other = site.another("other")
        visitors = [(site.visit(request(f"{name}.localhost")), name) for name in ("demo", "other") * 20]

        def serve(tunnel: object) -> None:
            upstream = tunnel.joined(tunnel.peer.park())
            upstream.message()
            upstream.send(OK)

        serving = [gevent.spawn(serve, tunnel) for tunnel in (site.demo, other) * 20]
        assert [visitor.message().body for visitor, _ in visitors] == [b"ok"] * 40
        gevent.killall(serving)


# Errors that scripts may read.

PREFLIGHT = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"
SCRIPT = "Origin: https://a.example\r\n"


def cors_fields(response: Response) -> dict[str, str]:
    """Return the fields by which a browser lets a script read ``response``."""
    return {name: value for name, value in response.fields.items() if name.startswith("access-control-")}


def ask_script(site: Site, fields: str = SCRIPT, method: str = "GET", host: str = HOST) -> Response:
    """Send a request as a script of another origin does, and return the answer."""
    return parse_response(site.visit(request(host, method=method, fields=fields)).rest())


def invalid(sock: gevent.socket.socket, number: int) -> None:
    sock.sendall(got(number) + ready(number) + b"no HTTP\r\n\r\n")


def closed(sock: gevent.socket.socket, number: int) -> None:
    sock.sendall(got(number) + ready(number))
    sock.close()


ERRORS: dict[str, tuple[int, dict[str, Any], Any]] = {
    "unauthorized": (401, {"protect": "ann:secret"}, None),
    "forbidden": (403, {"allow_ip": ["10.0.0.1"]}, None),
    "pool_exhausted": (503, {}, None),
    "upstream_invalid": (502, {}, invalid),
    "upstream_closed": (502, {}, closed),
    "upstream_refused": (502, {}, lambda sock, number: sock.sendall(got(number) + failed(number, "refused"))),
    "upstream_timeout": (504, {}, lambda sock, number: sock.sendall(got(number) + failed(number, "timeout"))),
}


@pytest.mark.parametrize("cors", [True, False])
@pytest.mark.parametrize("code", ERRORS)
def test_a_script_can_read_the_error_of_a_tunnel_with_cors(code: str, cors: bool) -> None:
    status, options, answer = ERRORS[code]
    fields = {"options": {**options, "cors": cors}}
    with running_site("0.3", fields, timeouts={"pool_wait": 0.2 if answer is None else CAP}) as site:
        if answer is not None:
            proxy = site.demo.park()
            visitor = site.visit(request(HOST, method="POST", fields=SCRIPT))
            answer(proxy, read_message(proxy)["proxy"]["id"])
            response = parse_response(visitor.rest())
        else:
            response = ask_script(site)
        assert (response.status, response.fields["x-localtunnel-error"]) == (status, code)
        expected = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"} if cors else {}
        assert cors_fields(response) == expected


def test_and_that_it_has_asked_too_often() -> None:
    limits = {"exempt": [], "address_request_rate": 0.2}
    with running_site("0.3", {"options": {"cors": True, "protect": "ann:secret"}}, limits=limits) as site:
        assert ask_script(site).status == 401
        for method in ("GET", "OPTIONS"):
            response = ask_script(site, PREFLIGHT, method)
            # A preflight that fails would hide the answer to the request itself.
            assert response.status == (429 if method == "GET" else 204)
            assert cors_fields(response)["access-control-allow-origin"] == "*"
        assert cors_fields(ask_script(site, host="localhost")) == {}


def test_and_that_the_client_is_away() -> None:
    with running_site("0.3", {"options": {"cors": True}}) as site:
        site.another("other")
        for tunnel in site.tunnels:
            tunnel.peer.close()
        wait_until(lambda: site.demo.tunnel is None and site.tunnels[1].tunnel is None, what="both are away")
        response = ask_script(site)
        assert (response.status, response.fields["x-localtunnel-error"]) == (503, "client_offline")
        assert cors_fields(response)["access-control-allow-origin"] == "*"
        assert ask_script(site, PREFLIGHT, "OPTIONS").status == 204
        for host in ("other.localhost", "nobody.localhost"):
            assert cors_fields(ask_script(site, host=host)) == {}
            assert ask_script(site, PREFLIGHT, "OPTIONS", host=host).status in (404, 503)


def test_a_preflight_gets_nobody_past_the_networks() -> None:
    with running_site("0.3", {"options": {"cors": True, "allow_ip": ["10.0.0.1"]}}) as site:
        response = ask_script(site, PREFLIGHT, "OPTIONS")
        assert (response.status, response.fields["x-localtunnel-error"]) == (403, "forbidden")
