"""localtunnel.client.visit: one visitor on its way to the upstream."""

import pytest
from harness import (
    answer_hello,
    is_reset,
    pair,
    parse_response,
    read_head,
    read_to_end,
    request,
    running_upstream,
    silent_listener,
    unused_port,
    wait_until,
)

from localtunnel.client.upstream import Upstream
from localtunnel.client.visit import Visit
from localtunnel.net import closing
from localtunnel.net.address import parse_target

pytestmark = pytest.mark.usefixtures("no_leaks")

REQUEST = request("foo.example.com", "/page")


class Watched:
    """A visit, its visitor's end, and what its watcher was told."""

    def __init__(self, port, first=REQUEST):
        upstream = Upstream(parse_target(port), 5.0)
        upstream.resolve()
        sock, self.visitor = pair()
        self.told = []
        self.errors = []
        self.visit = Visit(1, sock, first, upstream, self)

    def start(self):
        self.visit.start()
        return self

    def visit_joined(self, visit):
        assert visit is self.visit
        self.told.append("joined")

    def visit_failed(self, visit, error):
        assert visit is self.visit
        self.told.append("failed")
        self.errors.append(error)

    def visit_ended(self, visit):
        assert visit is self.visit
        self.told.append("ended")

    def wait_for_the_end(self):
        wait_until(lambda: "ended" in self.told)
        self.visitor.close()


def test_the_first_bytes_reach_the_upstream_before_what_follows():
    seen = []

    def handler(sock):
        seen.append(read_to_end(sock))
        sock.sendall(b"answer")

    with running_upstream(handler) as port:
        watched = Watched(port).start()
        watched.visitor.sendall(b" and more")
        watched.visitor.shutdown(1)
        assert read_to_end(watched.visitor) == b"answer"
        watched.wait_for_the_end()
    assert seen == [REQUEST + b" and more"]
    assert watched.told == ["joined", "ended"]
    assert watched.visit.received == len(REQUEST + b" and more")
    assert watched.visit.sent == len(b"answer")
    assert watched.visit.reason == "closed"


def test_a_visitor_may_be_silent_at_first():
    with running_upstream(answer_hello) as port:
        watched = Watched(port, b"").start()
        watched.visitor.sendall(REQUEST)
        assert parse_response(read_to_end(watched.visitor)).body == b"hello"
        watched.visitor.close()
        watched.wait_for_the_end()


def test_an_upstream_that_is_down_costs_the_visitor_a_502_and_names_nothing_local():
    port = unused_port()
    watched = Watched(port).start()
    response = parse_response(read_to_end(watched.visitor))
    watched.wait_for_the_end()
    assert response.status == 502
    assert response.fields["x-localtunnel-error"] == "upstream_refused"
    assert str(port).encode() not in response.body
    assert b"127.0.0.1" not in response.body
    assert watched.told == ["failed", "ended"]
    assert str(port) in str(watched.errors[0])
    assert watched.visit.reason == "upstream refused"


def test_the_502_of_a_head_request_has_no_body():
    watched = Watched(unused_port(), request("foo.example.com", method="HEAD")).start()
    response = parse_response(read_to_end(watched.visitor))
    watched.wait_for_the_end()
    assert (response.status, response.body) == (502, b"")


@pytest.mark.parametrize("first", [b"", b"GET / HT", b"\x16\x03\x01 no HTTP at all", b"GET / HTTP/1.1\r\n\r\n"])
def test_the_502_comes_whatever_the_visitor_sent(first):
    watched = Watched(unused_port(), first).start()
    assert parse_response(read_to_end(watched.visitor)).status == 502
    watched.wait_for_the_end()


def test_the_502_arrives_whole_though_the_visitor_goes_on_sending():
    watched = Watched(unused_port())
    watched.visitor.sendall(b"b" * 500_000)
    watched.start()
    watched.visitor.sendall(b"b" * 500_000)
    assert parse_response(read_to_end(watched.visitor)).status == 502
    watched.wait_for_the_end()


def test_abort_while_dialling_resets_the_visitor_and_stops_dialling():
    with silent_listener() as (host, port):
        watched = Watched(f"{host}:{port}").start()
        assert watched.told == []
        watched.visit.abort("client stopped")
        watched.visit.abort("again")
        assert is_reset(watched.visitor)
        assert watched.told == ["ended"]
        assert watched.visit.reason == "client stopped"
        watched.visitor.close()


def test_abort_of_a_joined_visit_resets_both():
    upstreams = []

    def handler(sock):
        read_head(sock)
        upstreams.append(is_reset(sock))

    with running_upstream(handler) as port:
        watched = Watched(port).start()
        wait_until(lambda: "joined" in watched.told)
        watched.visit.abort("client stopped")
        assert is_reset(watched.visitor)
        wait_until(lambda: upstreams)
        watched.wait_for_the_end()
    assert upstreams == [True]
    assert watched.told == ["joined", "ended"]


def test_a_visitor_that_is_gone_before_the_502_is_no_failure_of_ours():
    watched = Watched(unused_port())
    closing.reset(watched.visitor)
    watched.start()
    watched.wait_for_the_end()
    assert watched.told == ["failed", "ended"]


@pytest.mark.parametrize(
    ("first", "line"),
    [(REQUEST, "GET /page HTTP/1.1"), (b"", None), (b"GET /pa", None), (b"\xff\xfe\r\n", "\ufffd\ufffd")],
)
def test_the_request_line_is_shown_when_it_came_along(first, line):
    watched = Watched(unused_port(), first)
    assert watched.visit.request_line == line
    watched.start()
    watched.wait_for_the_end()
