"""localtunnel.server.tunnels.assigning: an assignment and its answers, lost, late,
twice, out of order, cut at every byte.
"""

import gevent
import pytest
from harness import (
    at_most,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    pair,
    read_head,
    read_message,
    read_to_end,
    request,
    running_server,
    wait_until,
)
from harness.v3 import Peer, end, failed, got, park, parked, ready

from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol import limits
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.assigning import Assigning03
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.visitors.stream_join import StreamJoin

pytestmark = pytest.mark.usefixtures("no_leaks")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
HOWS = ["FIN", "RST"]


def status(server, name="demo"):
    """Send a visitor and return what it is told, as (status, code or None)."""
    response = fetch(frontend(server), request(f"{name}.localhost", method="POST", body=b"x"))
    return response.status, response.fields.get("x-localtunnel-error")


def answer(sock):
    """Take the assignment on ``sock`` and serve the visitor. Returns whether there was one."""
    try:
        number = read_message(sock)["proxy"]["id"]
    except (AssertionError, OSError):
        return False
    read_head(sock)
    sock.sendall(got(number) + ready(number) + OK)
    sock.close()
    return True


class Bench:
    """A tunnel of two connections: the newer says what the test lets it say, the older one serves a visitor."""

    def __init__(self, server, name="demo"):
        self.server, self.name = server, name
        self.peer = Peer(backend(server), name)
        live, self.sock = park(server, self.peer, 2)
        self.served = gevent.spawn(answer, live)

    def visit(self, script, how=None):
        """Answer an assignment of id N with ``script(N)``, perhaps end the connection, and return what a visitor gets.

        Returns (status, code, whether the other connection served a visitor).
        """
        visitor = gevent.spawn(status, self.server, self.name)
        number = read_message(self.sock)["proxy"]["id"]
        self.sock.sendall(script(number))
        if how is not None:
            read_head(self.sock)
            end(self.sock, how)
        with at_most(10.0, "the visitor's answer"):
            told = visitor.get()
        wait_until(lambda: not self.server.joins)
        self.peer.close()
        self.served.join()
        return (*told, self.served.value)


@pytest.fixture
def server():
    with running_server(timeouts={"pool_wait": 2.0}) as running:
        yield running


FAILURES = {
    "refused": (502, "upstream_refused"),
    "timeout": (504, "upstream_timeout"),
    "unreachable": (502, "upstream_unreachable"),
    "closed": (502, "upstream_closed"),
    "seen": (502, "upstream_closed"),
    "a word of tomorrow": (502, "upstream_unreachable"),
}


@pytest.mark.parametrize("word", FAILURES)
@pytest.mark.parametrize("before", [lambda number: b"", got], ids=["at once", "after got"])
def test_failed_tells_the_visitor_why(server, word, before):
    told = Bench(server).visit(lambda number: before(number) + failed(number, word))
    assert told == (*FAILURES[word], False)


SERVED = (200, None, True)
LOST = (502, "upstream_closed", False)
SCRIPTS = {
    "silence": (lambda number: b"", None, SERVED),
    "closed": (lambda number: b"", "FIN", SERVED),
    "reset": (lambda number: b"", "RST", SERVED),
    "ready before got": (lambda number: ready(number) + got(number), None, SERVED),
    "got of another": (lambda number: got(number + 1), None, SERVED),
    "a heartbeat": (lambda number: frame({"control": "ping"}), None, SERVED),
    "release": (lambda number: frame({"release": True}), None, SERVED),
    "no message": (lambda number: frame({"hello": number}), None, SERVED),
    "no frame": (lambda number: b"\xff" * 8, None, SERVED),
    "no JSON": (lambda number: frame(b"{"), None, SERVED),
    "got, closed": (got, "FIN", LOST),
    "got, reset": (got, "RST", LOST),
    "got twice": (lambda number: got(number) * 2, None, LOST),
    "got, ready of another": (lambda number: got(number) + ready(number + 1), None, LOST),
    "ready, closed": (lambda number: got(number) + ready(number), "FIN", LOST),
    "ready, reset": (lambda number: got(number) + ready(number), "RST", LOST),
    "failed twice": (lambda number: failed(number, "refused") * 2, None, (502, "upstream_refused", False)),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_answers_to_an_assignment(server, case):
    """Before ``got`` another connection is tried; after it the client has the visitor, and nobody else gets it."""
    script, how, told = SCRIPTS[case]
    assert Bench(server).visit(script, how) == told


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["taken", "failed"])
def test_answers_cut_at_every_byte(server, kind, how):
    def decisive(number):
        return got(number) if kind == "taken" else failed(number, "refused")

    def script(number):
        numbers.append(number)
        return (decisive(number) + ready(number))[:size]

    numbers = []
    for size in range(len(decisive(99) + ready(99)) + 1):
        told = Bench(server, f"cut-{size}").visit(script, how)
        if size < len(decisive(numbers[-1])):
            assert told == SERVED, size
        else:
            assert told == (LOST if kind == "taken" else (502, "upstream_refused", False)), size


def test_got_without_ready(server, monkeypatch):
    monkeypatch.setattr(limits, "READY_TIMEOUT", 0.3)
    assert Bench(server).visit(got) == (504, "upstream_timeout", False)


def test_a_late_got_counts_and_ends_the_other_attempts(server):
    with Peer(backend(server)) as peer:
        second, first = park(server, peer, 2)
        visitor = gevent.spawn(status, server)
        number = read_message(first)["proxy"]["id"]
        assert read_message(second)["proxy"]["id"] == number
        read_head(first)
        first.sendall(got(number))
        assert is_reset(second)
        first.sendall(ready(number) + OK)
        first.close()
        assert visitor.get() == (200, None)


def test_what_follows_ready_is_the_upstreams_stream_even_if_it_looks_like_ready():
    with running_server(edge="join") as server, Peer(backend(server)) as peer:
        (sock,) = park(server, peer)
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("demo.localhost"))
            number = read_message(sock)["proxy"]["id"]
            read_head(sock)
            sock.sendall(got(number) + ready(number) * 2)
            sock.close()
            assert read_to_end(visitor) == ready(number)


def test_the_newest_connection_is_assigned_first(server):
    with Peer(backend(server)) as peer:
        _, _, newest = park(server, peer, 3)
        visitor = gevent.spawn(status, server)
        assert answer(newest)
        assert visitor.get() == (200, None)
        assert parked(server) == 2


def test_a_visitor_that_came_before_any_connection_gets_the_first_one(server):
    with Peer(backend(server)) as peer:
        visitor = gevent.spawn(status, server)
        wait_until(lambda: server.joins)
        assert answer(peer.park())
        assert visitor.get() == (200, None)


def test_a_deadline_ends_the_wait_for_a_connection(server):
    with Peer(backend(server)) as peer:
        assert status(server) == (503, "pool_exhausted")
        wait_until(lambda: peer.said("notice"))


def test_a_connection_lost_at_the_deadline_is_refused_once():
    """The deadline and the end of the only connection come in one turn of the loop, the connection first."""
    refused = []
    theirs, ours = pair()
    proxy, client = pair()
    now = [0.0]
    with theirs, ours, proxy, client:
        pool = Pool(10)
        pool.park(SocketEnd(proxy, "client"))
        join = StreamJoin(Assignment(1, "v"), SocketEnd(theirs, "visitor"), b"", refused.append)
        Assigning03(join, pool, Deadline(1.0, lambda: now[0])).start()
        assert read_message(client)["proxy"]["id"] == 1
        now[0] = 2.0
        client.close()
        wait_until(lambda: refused)
        assert [error.code for error in refused] == ["pool_exhausted"]
