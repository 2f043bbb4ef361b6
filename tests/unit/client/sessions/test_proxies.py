"""localtunnel.client.sessions.proxies: the pool of proxy connections of one session."""

import socket

import gevent
import pytest
from harness import LOOPBACK, RawServer, frame, read_to_end, wait_until
from harness.v3 import SESSION, RawBackend, assignment

from localtunnel.client.sessions import proxies as proxies_module
from localtunnel.client.sessions.proxies import Proxies
from localtunnel.net import closing
from localtunnel.net.dial import Address
from localtunnel.protocol.limits import MAX_CONCURRENCY
from localtunnel.protocol.messages import Assignment, ProxyRequest
from localtunnel.protocol.version import LTP_0_2, LTP_0_3

pytestmark = pytest.mark.usefixtures("no_leaks")

ASSIGNED = frame({"proxy": True})


class Bench:
    """A pool at a server made of sockets, in one of the versions."""

    def __init__(self, size, version=LTP_0_2):
        self.server = RawServer() if version == LTP_0_2 else RawBackend()
        self.taken = []
        self.assignments = []
        self.refused = []
        self.pool = Proxies(
            Address(socket.AF_INET, (LOOPBACK, self.server.port)),
            version,
            ProxyRequest("foo", "me") if version == LTP_0_2 else ProxyRequest("foo", session=SESSION),
            size,
            5.0,
            self.take,
            self.refused.append,
        )

    def take(self, sock, assignment, first):
        self.taken.append((sock, first))
        self.assignments.append(assignment)

    def close(self):
        self.pool.close()
        self.server.close()
        for sock, _ in self.taken:
            closing.close(sock)


@pytest.fixture
def make(monkeypatch):
    """Returns a function that makes a pool of a size and fills it; failures are tried again soon."""
    monkeypatch.setattr(proxies_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(proxies_module, "RETRY_LONGEST", 0.05)
    made = []

    def build(size, version=LTP_0_2):
        made.append(Bench(size, version))
        made[-1].pool.fill()
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def nobody_else_comes(server):
    """Check that no connection waits to be accepted."""
    server.listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        server.listener.accept()
    server.listener.settimeout(10)


def test_as_many_are_opened_as_were_asked_for(make):
    bench = make(3)
    for _ in range(3):
        _, message = bench.server.accept()
        assert message == {"proxy": {"name": "foo", "client": "me"}}
    nobody_else_comes(bench.server)
    bench.pool.fill()
    nobody_else_comes(bench.server)
    assert len(bench.pool) == 3


@pytest.mark.parametrize(("asked", "size"), [(0, 1), (-5, 1), (MAX_CONCURRENCY + 1, MAX_CONCURRENCY)])
def test_what_the_server_asks_for_is_bounded(asked, size):
    address = Address(socket.AF_INET, (LOOPBACK, 1))
    pool = Proxies(address, LTP_0_2, ProxyRequest("foo", "me"), asked, 5.0, print, print)
    assert pool._size == size


def test_another_is_opened_for_each_one_assigned(make):
    bench = make(2)
    first, second = bench.server.accept_proxy(), bench.server.accept_proxy()
    for proxy in (first, second):
        proxy.sendall(ASSIGNED)
        bench.server.accept_proxy()
    nobody_else_comes(bench.server)
    wait_until(lambda: len(bench.taken) == 2)
    assert len(bench.pool) == 2


def test_what_comes_with_the_assignment_is_handed_over(make):
    bench = make(1)
    proxy = bench.server.accept_proxy()
    proxy.sendall(ASSIGNED + b"GET / HTTP/1.1\r\n")
    wait_until(lambda: bench.taken)
    (sock, first), *_ = bench.taken
    assert first == b"GET / HTTP/1.1\r\n"
    sock.send(b"answer")
    assert proxy.recv(100) == b"answer"


@pytest.mark.parametrize("cut", range(1, len(ASSIGNED)))
def test_the_assignment_of_0_2_may_be_cut_anywhere(make, cut):
    bench = make(1)
    proxy = bench.server.accept_proxy()
    proxy.sendall(ASSIGNED[:cut])
    gevent.idle()
    gevent.idle()
    assert bench.taken == []
    proxy.sendall(ASSIGNED[cut:] + b"x")
    wait_until(lambda: bench.taken)
    assert bench.assignments == [None]
    sock, first = bench.taken[0]
    if first == b"":
        gevent.socket.wait_read(sock.fileno(), 5)
        first = sock.recv(1)
    assert first == b"x"


@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_one_that_ends_unassigned_is_replaced_after_a_moment(make, end):
    bench = make(1)
    for _ in range(4):
        end(bench.server.accept_proxy())
    bench.server.accept_proxy()
    assert bench.taken == []
    assert len(bench.pool) == 1


def test_the_moment_grows_with_every_failure_and_shrinks_with_a_success(make, monkeypatch):
    longest = []

    def record(low, high):
        longest.append(high)
        return high

    monkeypatch.setattr(proxies_module.random, "uniform", record)
    bench = make(1)
    for _ in range(4):
        bench.server.accept_proxy().close()
    bench.server.accept_proxy().sendall(ASSIGNED)
    bench.server.accept_proxy().close()
    bench.server.accept_proxy()
    assert longest == [0.02, 0.04, 0.05, 0.05, 0.02]


def test_an_error_is_told_and_the_connection_is_replaced(make):
    bench = make(1)
    bench.server.accept_proxy().sendall(frame({"error": "unavailable", "message": "Not yours."}))
    bench.server.accept_proxy()
    assert [(reply.error, reply.message) for reply in bench.refused] == [("unavailable", "Not yours.")]


@pytest.mark.parametrize(
    "sent",
    [frame({"control": "ping"}), frame({"proxy": False}), frame([]), b"\xff\xff\xff\xff", b"HTTP/1.1 400 \r\n\r\n"],
)
def test_anything_but_an_assignment_costs_that_connection(make, sent):
    bench = make(1)
    proxy = bench.server.accept_proxy()
    proxy.sendall(sent)
    assert read_or_reset(proxy) == b""
    bench.server.accept_proxy()
    assert bench.taken == []


def read_or_reset(sock):
    try:
        return read_to_end(sock)
    except ConnectionResetError:
        return b""


def test_a_backend_that_is_gone_is_tried_again(make):
    bench = make(1)
    bench.server.accept_proxy().close()
    bench.server.stop_listening()
    wait_until(lambda: bench.pool._failures >= 3)
    with RawServer(bench.server.port) as again:
        again.accept_proxy()
        assert len(bench.pool) == 1


def test_closing_closes_what_is_parked_and_opens_nothing_more(make):
    bench = make(2)
    proxies = [bench.server.accept_proxy() for _ in range(2)]
    bench.pool.close()
    bench.pool.close()
    assert [read_to_end(proxy) for proxy in proxies] == [b"", b""]
    bench.pool.fill()
    nobody_else_comes(bench.server)
    assert len(bench.pool) == 0


def test_closing_leaves_those_alone_that_were_taken(make):
    bench = make(1)
    proxy = bench.server.accept_proxy()
    proxy.sendall(ASSIGNED)
    wait_until(lambda: bench.taken)
    bench.pool.close()
    bench.taken[0][0].send(b"still here")
    assert proxy.recv(100) == b"still here"


def test_closing_within_the_hand_over_is_safe(make):
    """The session may end in the very callback that takes a connection over."""
    bench = make(2)
    proxies = [bench.server.accept_proxy() for _ in range(2)]
    bench.pool._taken = lambda sock, assignment, first: (bench.take(sock, assignment, first), bench.pool.close())
    proxies[0].sendall(ASSIGNED)
    wait_until(lambda: bench.taken)
    assert read_to_end(proxies[1]) == b""


# LTP/0.3.


def test_in_0_3_the_session_is_shown_and_the_assignment_handed_on(make):
    bench = make(1, LTP_0_3)
    # It holds the connection to the session.
    proxy = bench.server.accept_proxy()
    proxy.sendall(assignment(7) + b"GET / HTTP/1.1\r\n")
    bench.server.accept_proxy()
    assert bench.assignments == [Assignment(7, "203.0.113.7:51234", "http")]
    assert [first for _, first in bench.taken] == [b"GET / HTTP/1.1\r\n"]


@pytest.mark.parametrize(("version", "sent"), [(LTP_0_2, assignment(7)), (LTP_0_3, ASSIGNED)])
def test_an_assignment_of_the_other_version_costs_that_connection(make, version, sent):
    bench = make(1, version)
    proxy = bench.server.accept_proxy()
    proxy.sendall(sent)
    assert read_or_reset(proxy) == b""
    bench.server.accept_proxy()
    assert bench.taken == []


def test_a_pool_that_grows_opens_what_is_missing(make):
    bench = make(1, LTP_0_3)
    bench.server.accept_proxy()
    bench.pool.resize(3)
    for _ in range(2):
        bench.server.accept_proxy()
    nobody_else_comes(bench.server)
    assert len(bench.pool) == 3


def test_a_pool_that_shrinks_closes_the_oldest(make):
    bench = make(3, LTP_0_3)
    oldest, older, newest = [bench.server.accept_proxy() for _ in range(3)]
    bench.pool.resize(1)
    assert [read_to_end(proxy) for proxy in (oldest, older)] == [b"", b""]
    newest.sendall(assignment(1))
    wait_until(lambda: bench.taken)
    bench.server.accept_proxy()
    nobody_else_comes(bench.server)


def test_a_pool_of_none_and_then_of_some_is_all_fresh(make):
    bench = make(2, LTP_0_3)
    old = [bench.server.accept_proxy() for _ in range(2)]
    bench.pool.resize(0)
    bench.pool.resize(2)
    assert [read_to_end(proxy) for proxy in old] == [b"", b""]
    for _ in range(2):
        bench.server.accept_proxy()
    nobody_else_comes(bench.server)


def test_a_pool_that_is_drained_keeps_what_it_has_and_opens_no_more(make):
    bench = make(2, LTP_0_3)
    first, second = [bench.server.accept_proxy() for _ in range(2)]
    bench.pool.drain()
    first.sendall(assignment(1))
    wait_until(lambda: bench.taken)
    second.close()
    wait_until(lambda: len(bench.pool) == 0)
    nobody_else_comes(bench.server)


def test_a_pool_that_is_renewed_is_all_fresh_unless_it_is_drained(make):
    bench = make(2, LTP_0_3)
    old = [bench.server.accept_proxy() for _ in range(2)]
    bench.pool.renew()
    assert [read_to_end(proxy) for proxy in old] == [b"", b""]
    for _ in range(2):
        bench.server.accept_proxy()
    bench.pool.drain()
    bench.pool.renew()
    assert len(bench.pool) == 2
    nobody_else_comes(bench.server)
