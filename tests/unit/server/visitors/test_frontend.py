"""localtunnel.server.visitors.frontend: a visitor's head, however it comes, and the answers of the server's own."""

import json

import gevent
import pytest
from harness import (
    ANSWER,
    RawClient,
    at_most,
    backend,
    connect,
    fetch,
    forwarded,
    frontend,
    parse_response,
    read_exactly,
    read_message,
    read_to_end,
    request,
    running_server,
    wait_until,
)
from harness.peers import assigned
from harness.web import assert_refused

from localtunnel.net import closing

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def server():
    with running_server(timeouts={"head": 0.3, "pool_wait": 5}, custom_hosts=["www.example.org"]) as running:
        yield running


@pytest.fixture
def client(server):
    """The client of a tunnel ``foo``, with nothing parked yet."""
    with RawClient(backend(server), "foo", domain="www.example.org") as raw:
        yield raw


def test_a_host_that_arrives_byte_by_byte_is_found_and_its_lines_are_passed_on_untouched(server, client):
    proxy = client.park()
    sent = request("foo.localhost", "/a?b=c", fields="X-Odd:   spaced  \r\nConnection: close\r\n")
    with connect(frontend(server)) as visitor:
        for byte in sent:
            visitor.sendall(bytes([byte]))
            gevent.sleep(0)
        assert assigned(proxy) == forwarded(sent)
        proxy.sendall(ANSWER)
        proxy.close()
        assert read_to_end(visitor) == ANSWER


SPLIT = request("foo.localhost")


@pytest.mark.parametrize("cut", range(1, len(SPLIT)))
def test_a_head_may_be_cut_anywhere(server, client, cut):
    proxy = client.park()
    with connect(frontend(server)) as visitor:
        visitor.sendall(SPLIT[:cut])
        gevent.idle()
        gevent.idle()
        visitor.sendall(SPLIT[cut:])
        assert assigned(proxy) == forwarded(SPLIT)


def test_a_body_that_came_with_the_head_comes_with_the_assignment(server, client):
    proxy = client.park()
    sent = request("foo.localhost", "/upload", "POST", body=b"b" * 30_000)
    with connect(frontend(server)) as visitor:
        visitor.sendall(sent)
        assert read_message(proxy) == {"proxy": True}
        expected = forwarded(sent)
        assert read_exactly(proxy, len(expected)) == expected


@pytest.mark.parametrize(
    "host", ["foo.localhost", "FOO.LocalHost", "foo.localhost:8000", "foo.localhost.", "www.example.org"]
)
def test_every_spelling_of_the_host_leads_to_the_tunnel(server, client, host):
    proxy = client.park()
    with connect(frontend(server)) as visitor:
        visitor.sendall(request(host))
        assert assigned(proxy) == forwarded(request(host))


def test_a_head_that_is_not_complete_in_time_is_answered_408(server):
    with connect(frontend(server)) as visitor, at_most(5):
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: foo.loc")
        assert_refused(parse_response(read_to_end(visitor)), 408, "request_timeout")


def test_silence_is_answered_408(server):
    with connect(frontend(server)) as visitor, at_most(5):
        assert_refused(parse_response(read_to_end(visitor)), 408, "request_timeout")


def test_dripping_does_not_buy_time(server):
    with connect(frontend(server)) as visitor, at_most(5):
        dripper = gevent.spawn(drip, visitor)
        assert_refused(parse_response(read_to_end(visitor)), 408, "request_timeout")
        dripper.kill()


def drip(sock):
    for byte in request("foo.localhost", "/" + "x" * 1000):
        sock.sendall(bytes([byte]))
        gevent.sleep(0.02)


def head_of(size):
    """Return a head of exactly ``size`` bytes, in fields of 8,000 bytes at most."""
    start = b"GET / HTTP/1.1\r\nHost: foo.localhost\r\n"
    missing = size - len(start) - 2
    fields = b""
    while missing:
        length = missing if missing <= 8000 else min(8000, missing - 100)
        fields += b"X: " + b"y" * (length - 5) + b"\r\n"
        missing -= length
    return start + fields + b"\r\n"


def test_a_head_of_64_kib_is_taken_and_one_byte_more_is_not(server, client):
    proxy = client.park()
    whole = head_of(64 * 1024)
    assert len(whole) == 64 * 1024
    with connect(frontend(server)) as visitor:
        visitor.sendall(whole)
        assert read_message(proxy) == {"proxy": True}
        expected = forwarded(whole)
        assert read_exactly(proxy, len(expected)) == expected
    assert_refused(fetch(frontend(server), head_of(64 * 1024 + 1)), 431, "bad_request")


def test_a_head_that_never_ends_is_refused_at_the_limit(server):
    with connect(frontend(server)) as visitor, at_most(5):
        visitor.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (64 * 1024))
        assert_refused(parse_response(read_to_end(visitor)), 431, "bad_request")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no_host"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "no_host"),
        (b"GET / HTTP/1.0\r\n\r\n", "no_host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad_request"),
        (b"GET /\r\n\r\n", "bad_request"),
        (b"GET / HTTP/2.0\r\nHost: foo.localhost\r\n\r\n", "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: foo.localhost\nX: y\r\n\r\n", "bad_request"),
        (b"CONNECT foo.localhost:443 HTTP/1.1\r\nHost: foo.localhost:443\r\n\r\n", "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_is_no_request_is_answered_400(server, client, sent, code, bytewise):
    client.park()
    with connect(frontend(server)) as visitor, at_most(5):
        for piece in [sent[i : i + 1] for i in range(len(sent))] if bytewise else [sent]:
            visitor.sendall(piece)
            gevent.sleep(0)
        assert_refused(parse_response(read_to_end(visitor)), 400, code)


def test_an_unknown_tunnel_is_answered_404(server):
    assert_refused(fetch(frontend(server), request("bar.localhost")), 404, "tunnel_not_found")


@pytest.mark.parametrize("host", ["a.foo.localhost", "xfoo.localhost", "foo.example.org", "foo", "foo.localhost.evil"])
def test_hosts_are_matched_whole(server, client, host):
    client.park()
    assert_refused(fetch(frontend(server), request(host)), 404, "tunnel_not_found")


def test_an_answer_is_what_the_visitor_accepts(server):
    response = fetch(frontend(server), request("bar.localhost", fields="Accept: application/json\r\n"))
    assert response.fields["content-type"] == "application/json"
    assert json.loads(response.body)["error"] == "tunnel_not_found"
    response = fetch(frontend(server), request("bar.localhost", fields="Accept: text/html\r\n"))
    assert response.fields["content-type"] == "text/html; charset=utf-8"


def test_a_head_request_is_answered_without_a_body(server):
    response = fetch(frontend(server), request("bar.localhost", method="HEAD"))
    assert response.status == 404
    assert response.body == b""
    assert int(response.fields["content-length"]) > 0


def test_an_answer_arrives_whole_though_the_visitor_goes_on_sending(server):
    with connect(frontend(server)) as visitor:
        visitor.sendall(request("bar.localhost", method="POST", fields="Content-Length: 1000000\r\n"))
        visitor.sendall(b"b" * 1_000_000)
        assert_refused(parse_response(read_to_end(visitor)), 404, "tunnel_not_found")


@pytest.mark.parametrize("start", [b"", b"GET / HT"])
@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_a_visitor_that_leaves_before_its_head_is_complete_leaves_nothing(server, start, end):
    visitor = connect(frontend(server))
    visitor.sendall(start)
    gevent.idle()
    end(visitor)
    wait_until(lambda: not server.stats().visitors and not server._frontend._edge.connections)


def test_stopping_drops_visitors_whose_head_has_not_come():
    with running_server(timeouts={"head": 60}) as server:
        visitor = connect(frontend(server))
        visitor.sendall(b"GET /")
        connections = server._frontend._edge.connections
        wait_until(lambda: server.stats().visitors == len(connections) == 1)
        with at_most(3):
            server.stop(0)
    assert not connections
    assert ended(visitor)
    visitor.close()


def ended(sock):
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
