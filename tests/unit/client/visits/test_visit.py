"""localtunnel.client.visits.visit: one visitor on its way to the upstream, in LTP/0.2 and in LTP/0.3."""

import pytest
from harness import (
    answer_hello,
    is_reset,
    pair,
    parse_response,
    read_head,
    read_message,
    read_to_end,
    request,
    running_upstream,
    silent_listener,
    unused_port,
    wait_until,
)

from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visit import Visit, failure_of
from localtunnel.errors import (
    ConnectionRefused,
    DeadlineExceeded,
    NetworkError,
    Unreachable,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from localtunnel.net import closing
from localtunnel.net.address import parse_target
from localtunnel.net.closing import Lingering
from localtunnel.protocol.messages import Assignment

pytestmark = pytest.mark.usefixtures("no_leaks")

REQUEST = request("foo.example.com", "/page")


class Watched:
    """A visit, its visitor's end, and what its watcher was told."""

    def __init__(self, port, first=REQUEST, assignment=None, seconds=5.0):
        upstream = Upstream(parse_target(port), seconds)
        upstream.resolve()
        sock, self.visitor = pair()
        self.told = []
        self.errors = []
        self.lingering = Lingering()
        self.half_closed = None
        self.visit = Visit(1, sock, assignment, first, upstream, self)

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
    assert watched.visit.reason == "upstream failed"
    assert watched.visit.peer is None


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
    ("first", "path"), [(REQUEST, "/page"), (b"", None), (REQUEST[:-1], None), (b"\xff\xfe\r\n", None)]
)
def test_the_request_is_known_when_it_came_along(first, path):
    watched = Watched(unused_port(), first)
    head = watched.visit.head()
    assert (None if head is None else head.path) == path
    watched.start()
    watched.wait_for_the_end()


def test_a_visitor_of_0_2_is_answered_when_the_upstream_is_silent():
    with silent_listener() as (host, port):
        watched = Watched(f"{host}:{port}", seconds=0.1).start()
        response = parse_response(read_to_end(watched.visitor))
        assert (response.status, response.fields["x-localtunnel-error"]) == (504, "upstream_timeout")
        watched.wait_for_the_end()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefused("x"), UpstreamRefused),
        (DeadlineExceeded("x"), UpstreamTimeout),
        (Unreachable("x"), UpstreamUnreachable),
        (NetworkError("x"), UpstreamUnreachable),
    ],
)
def test_what_a_visitor_may_know_of_a_failure_names_no_target(error, kind):
    failure = failure_of(error)
    assert type(failure) is kind
    assert str(failure) == ""


# LTP/0.3.

ASSIGNMENT = Assignment(7, "203.0.113.7:51234", "http")


def test_got_comes_at_once_and_ready_before_the_upstreams_stream():
    with running_upstream(answer_hello) as port:
        watched = Watched(port, assignment=ASSIGNMENT).start()
        assert [read_message(watched.visitor), read_message(watched.visitor)] == [{"got": 7}, {"ready": 7}]
        answer = read_to_end(watched.visitor)
        watched.visitor.close()
        watched.wait_for_the_end()
    assert parse_response(answer).body == b"hello"
    assert watched.told == ["joined", "ended"]
    assert watched.visit.peer == "203.0.113.7:51234"
    # What the visit says itself is not counted as the upstream's.
    assert (watched.visit.received, watched.visit.sent) == (len(REQUEST), len(answer))


def test_got_does_not_wait_for_the_upstream():
    with silent_listener() as (host, port):
        watched = Watched(f"{host}:{port}", assignment=ASSIGNMENT).start()
        assert read_message(watched.visitor) == {"got": 7}
        assert watched.told == []
        watched.visit.abort("end of the test")
        assert is_reset(watched.visitor)
        watched.visitor.close()


def test_an_upstream_that_is_down_is_told_to_the_server_which_answers_the_visitor():
    port = unused_port()
    watched = Watched(port, assignment=ASSIGNMENT).start()
    assert read_message(watched.visitor) == {"got": 7}
    assert read_message(watched.visitor) == {"failed": {"id": 7, "error": "refused"}}
    assert read_to_end(watched.visitor) == b""
    watched.wait_for_the_end()
    assert watched.told == ["failed", "ended"]
    assert str(port) in str(watched.errors[0])


def test_an_upstream_that_is_silent_is_told_as_such():
    with silent_listener() as (host, port):
        watched = Watched(f"{host}:{port}", assignment=ASSIGNMENT, seconds=0.1).start()
        assert read_message(watched.visitor) == {"got": 7}
        assert read_message(watched.visitor) == {"failed": {"id": 7, "error": "timeout"}}
        watched.wait_for_the_end()


def test_a_server_that_is_gone_before_ready_costs_the_upstream_a_reset():
    ends = []

    def handler(sock):
        ends.append(is_reset(sock))

    with running_upstream(handler) as port:
        watched = Watched(port, assignment=ASSIGNMENT)
        closing.reset(watched.visitor)
        watched.start()
        watched.wait_for_the_end()
        wait_until(lambda: ends)
    assert ends == [True]
    assert watched.visit.reason == "server gone"
    assert watched.told == ["ended"]


def test_a_server_that_is_gone_before_got_ends_the_dialling():
    with silent_listener() as (host, port):
        watched = Watched(f"{host}:{port}", assignment=ASSIGNMENT)
        closing.reset(watched.visitor)
        watched.start()
        watched.wait_for_the_end()
    assert watched.visit.reason == "server gone"
    assert watched.told == ["ended"]
