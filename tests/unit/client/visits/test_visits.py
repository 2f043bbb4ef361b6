"""localtunnel.client.visits.visits and visit: a visitor on its way to the upstream, in both versions."""

import gevent
import pytest
from harness import (
    LOOPBACK,
    is_reset,
    pair,
    parse_response,
    read_exactly,
    read_message,
    read_to_end,
    request,
    running_upstream,
    silent_listener,
    unused_port,
    wait_until,
)

from localtunnel.client.events import RequestFinished, UpstreamFailed, VisitorJoined
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visits import Visits
from localtunnel.net import closing
from localtunnel.net.address import Target
from localtunnel.protocol.messages import Assignment

pytestmark = pytest.mark.usefixtures("no_leaks")

HELLO = request("demo.localhost", "/hello")


class Bench:
    """Visits to ``port``; ``begin`` returns the server's end of the proxy connection."""

    def __init__(self, port, host=LOOPBACK):
        self.events, self.servers = [], []
        upstream = Upstream(Target((host,), port, f"{host}:{port}"), 0.3)
        upstream.resolve()
        self.visits = Visits(upstream, self.events.append)

    def begin(self, first=HELLO, number=1, kind="http", real_ip=False):
        """Begin a visit as LTP/0.3 has it, or as LTP/0.2 when ``number`` is None."""
        sock, server = pair()
        self.servers.append(server)
        assignment = None if number is None else Assignment(number, "203.0.113.7:51234", kind)
        self.visits.begin(sock, assignment, first, real_ip=real_ip)
        return server

    def kinds(self):
        return [type(event) for event in self.events]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.visits.end("end of the test")
        for server in self.servers:
            server.close()


def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)


@pytest.fixture
def port():
    with running_upstream(echo) as listening_port:
        yield listening_port


def told(event):
    """Return what of a finished request does not depend on the clock."""
    return event.number, event.connection, event.visitor, event.method, event.path, event.status, event.error


def test_a_visit_of_0_3_says_got_and_ready_and_then_only_bytes(port):
    with Bench(port) as bench:
        server = bench.begin(kind="tcp")
        assert (read_message(server), read_message(server)) == ({"got": 1}, {"ready": 1})
        assert read_exactly(server, len(HELLO)) == HELLO
        server.sendall(b"more")
        assert read_exactly(server, 4) == b"more"
        server.shutdown(1)
        assert read_to_end(server) == b""
        wait_until(lambda: not len(bench.visits))
        joined, left = bench.events
        assert joined == VisitorJoined(1, "203.0.113.7:51234")
        assert (left.received, left.sent, left.reason) == (len(HELLO) + 4, len(HELLO) + 4, "closed")


def test_a_visit_of_0_2_says_nothing_of_its_own(port):
    with Bench(port) as bench:
        server = bench.begin(number=None)
        assert read_exactly(server, len(HELLO)) == HELLO


@pytest.mark.parametrize("host", [LOOPBACK, "255.255.255.255"], ids=["refused", "unreachable"])
def test_failures_of_0_3_are_for_the_server_to_tell(host):
    with Bench(unused_port(), host) as bench:
        server = bench.begin()
        assert read_message(server) == {"got": 1}
        word = "refused" if host == LOOPBACK else "unreachable"
        assert read_message(server) == {"failed": {"id": 1, "error": word}}
        assert read_to_end(server) == b""
        assert bench.kinds() == [UpstreamFailed, RequestFinished]
        assert told(bench.events[1]) == (1, 1, "203.0.113.7", "GET", "/hello", 502, f"upstream_{word}")


def test_a_failure_on_a_tcp_tunnel_is_of_a_connection_and_not_of_a_request():
    with Bench(unused_port()) as bench:
        bench.begin(kind="tcp")
        wait_until(lambda: bench.events)
        assert bench.kinds() == [UpstreamFailed]


def test_a_timeout_is_told_to_the_server_and_to_the_user():
    with silent_listener() as address, Bench(address[1]) as bench:
        server = bench.begin()
        assert read_message(server) == {"got": 1}
        assert read_message(server) == {"failed": {"id": 1, "error": "timeout"}}
        assert bench.events[0].code == "deadline"


def test_a_failure_of_0_2_is_answered_by_the_client_itself():
    with Bench(unused_port()) as bench:
        server = bench.begin(number=None)
        response = parse_response(read_to_end(server))
        assert (response.status, response.fields["x-localtunnel-error"]) == (502, "upstream_refused")
        assert LOOPBACK not in response.body.decode()
        assert bench.kinds() == [UpstreamFailed, RequestFinished]
        assert told(bench.events[1]) == (1, 1, None, "GET", "/hello", 502, "upstream_refused")


@pytest.mark.parametrize("number", [1, None], ids=["0.3", "0.2"])
def test_aborting_resets_both_connections(number):
    """The one visitor is joined, the other one's upstream is still being dialled."""
    accepted, resets = [], []

    def upstream(sock):
        accepted.append(sock)
        resets.append(is_reset(sock))

    with (
        running_upstream(upstream) as port,
        silent_listener() as address,
        Bench(port) as joined,
        Bench(address[1]) as dialling,
    ):
        servers = [joined.begin(number=number), dialling.begin(number=number)]
        wait_until(lambda: accepted)
        for bench in (joined, dialling):
            bench.visits.end("test")
            bench.visits.end("again")
            assert len(bench.visits) == 0
            assert [told(event)[4:] for event in bench.events] == [("/hello", None, "stopped")]
        assert all(is_reset(server) for server in servers)
        wait_until(lambda: resets)
    assert resets == [True]


def test_a_server_that_has_gone_ends_the_visit_before_it_begins(port):
    with Bench(port) as bench:
        sock, server = pair()
        sock.shutdown(1)
        server.close()
        bench.visits.begin(sock, Assignment(1, "v"), HELLO)
        assert [told(event)[4:] for event in bench.events] == [("/hello", None, "visitor_gone")]
        assert len(bench.visits) == 0


def test_each_visit_has_a_number_and_ends_by_itself(port):
    with Bench(port) as bench:
        first, second = bench.begin(number=1, kind="tcp"), bench.begin(number=2, kind="tcp")
        first.close()
        wait_until(lambda: len(bench.visits) == 1)
        assert [event.number for event in bench.events] == [1, 2, 1]
        assert read_message(second) == {"got": 2}


def test_an_assignment_that_was_seen_is_refused_and_the_connection_closed():
    sock, server = pair()
    with server, Bench(unused_port()) as bench:
        server.sendall(HELLO)
        bench.visits.refuse_seen(sock, Assignment(9, "v"))
        assert read_message(server) == {"failed": {"id": 9, "error": "seen"}}
        assert read_to_end(server) == b""
    gevent.idle()


def test_refusing_to_a_server_that_is_gone_closes():
    sock, server = pair()
    closing.reset(server)
    with Bench(unused_port()) as bench:
        bench.visits.refuse_seen(sock, Assignment(9, "v"))
        assert sock.fileno() == -1


def test_who_lingers_is_closed_when_the_visits_end():
    sock, server = pair()
    with server, Bench(unused_port()) as bench:
        bench.visits.refuse_seen(sock, Assignment(9, "v"))
        assert sock.fileno() >= 0
        bench.visits.end("test")
        assert sock.fileno() == -1
