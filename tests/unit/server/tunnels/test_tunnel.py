"""localtunnel.server.tunnels.tunnel: visitors that come, wait, and go; and the tunnel's end."""

import socket
import time
from types import SimpleNamespace

import gevent
import pytest
from harness import is_reset, pair, read_exactly, read_message, wait_until
from harness.tunnels import Owner, make_tunnel
from harness.v3 import got, ready

from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol.limits import PARKED_AGE
from localtunnel.protocol.messages import Assignment
from localtunnel.protocol.version import LTP_0_2, LTP_0_3
from localtunnel.server.tunnels.join import Joins
from localtunnel.server.visitors.stream_join import StreamJoin

pytestmark = pytest.mark.usefixtures("no_leaks")


class Bench:
    """A tunnel, the peers of its proxy connections, and its visitors."""

    def __init__(self, version=LTP_0_2):
        self.joins = Joins()
        self.owner = Owner()
        self.tunnel = make_tunnel("foo", version=version, owner=self.owner, joins=self.joins)
        self.proxies = []
        self.visitors = []
        self.refused = []

    def park(self):
        theirs, ours = pair()
        self.proxies.append(ours)
        self.tunnel.park(SocketEnd(theirs, "client"))
        return ours

    def visit(self, seconds=5.0):
        """Send a visitor in, whose first byte is its number; returns the visitor's end."""
        theirs, ours = pair()
        number = len(self.visitors)
        self.visitors.append(ours)

        def refuse(error):
            self.refused.append((number, error.code))
            closing.close(theirs)

        join = StreamJoin(Assignment(number + 1, "v", "http"), SocketEnd(theirs, "visitor"), b"%d" % number, refuse)
        self.tunnel.open(join, Deadline(seconds))
        return ours

    def close(self):
        self.tunnel.end("end of the test")
        gevent.idle()
        self.joins.abort_all("end of the test")
        for sock in (*self.proxies, *self.visitors):
            sock.close()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


@pytest.fixture(params=[LTP_0_2, LTP_0_3], ids=["0.2", "0.3"])
def either(request):
    """A tunnel of each version, for what both have in common."""
    made = Bench(request.param)
    yield made
    made.close()


@pytest.fixture
def bench_0_3():
    made = Bench(LTP_0_3)
    yield made
    made.close()


def assigned_visitor(proxy):
    """Return the number of the visitor to which ``proxy`` was assigned, having accepted it as the version demands."""
    assignment = read_message(proxy)["proxy"]
    number = int(read_exactly(proxy, 1))
    if assignment is not True:
        assert assignment == {"id": number + 1, "peer": "v", "kind": "http"}
        proxy.sendall(got(number + 1) + ready(number + 1))
    return number


def test_a_parked_connection_is_assigned_at_once(either):
    proxy = either.park()
    either.visit()
    assert assigned_visitor(proxy) == 0
    assert len(either.tunnel.joins) == len(either.joins) == 1


def test_visitors_wait_and_are_served_in_the_order_in_which_they_came(either):
    for _ in range(3):
        either.visit()
    gevent.idle()
    assert [assigned_visitor(either.park()) for _ in range(3)] == [0, 1, 2]
    assert either.refused == []


def test_visitors_that_come_in_one_turn_of_the_hub_keep_their_order(either):
    for _ in range(3):
        either.visit()
    proxies = [either.park() for _ in range(3)]
    assert sorted(assigned_visitor(proxy) for proxy in proxies) == [0, 1, 2]


def test_a_visitor_for_whom_nothing_comes_is_refused(either):
    either.visit(0.05)
    wait_until(lambda: either.refused)
    assert either.refused == [(0, "pool_exhausted")]
    assert len(either.joins) == 0


def test_a_connection_that_died_in_silence_is_passed_over(either):
    alive, dead = either.park(), either.park()
    closing.reset(dead)
    # Not a turn of the hub in between: the pool has not noticed, and the write has to.
    either.visit()
    assert assigned_visitor(alive) == 0


def test_the_end_turns_waiting_visitors_away_and_closes_the_pool(either):
    either.visit()
    gevent.idle()
    either.tunnel.end("no heartbeat")
    either.tunnel.end("later")
    wait_until(lambda: either.refused)
    assert either.refused == [(0, "pool_exhausted")]
    assert either.tunnel.ended == "no heartbeat"
    assert either.owner.ends == ["no heartbeat"]
    assert either.park().recv(1) == b""


def test_the_end_closes_parked_connections_and_leaves_joins_alone(either):
    idle, used = either.park(), either.park()
    visitor = either.visit()
    assert assigned_visitor(used) == 0
    either.tunnel.end("control connection closed")
    assert idle.recv(1) == b""
    used.sendall(b"still joined")
    assert visitor.recv(100) == b"still joined"


def test_a_visitor_that_is_aborted_while_it_waits_is_no_obstacle(either):
    first = either.visit()
    gevent.idle()
    either.joins.abort_all("stopping")
    assert is_reset(first)
    either.visit()
    gevent.idle()
    for _ in range(2):
        either.park()
    wait_until(lambda: any(assigned(proxy) for proxy in either.proxies), what="the second visitor's assignment")
    served = [proxy for proxy in either.proxies if assigned(proxy)]
    assert [assigned_visitor(proxy) for proxy in served] == [1]


def assigned(sock):
    """Say whether something was sent to ``sock``."""
    try:
        return sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return False


def test_repr_says_how_it_stands(either):
    either.park()
    assert repr(either.tunnel) == "<Tunnel foo <Pool parked=1 dead=0 waiting=0> joins=0 open>"
    either.tunnel.end("over")
    assert repr(either.tunnel) == "<Tunnel foo <Pool parked=0 dead=0 waiting=0> joins=0 over>"


def test_a_tunnel_of_0_2_has_the_size_that_the_server_was_given(bench):
    """Its client never grows its pool, so nothing follows the demand."""
    assert bench.tunnel.size == 0
    for _ in range(8):
        bench.visit()
    bench.tunnel.tick()
    assert bench.owner.sizes == []


def test_a_tunnel_of_0_3_grows_with_its_visitors_and_gives_its_share_back(bench_0_3):
    tunnel = bench_0_3.tunnel
    assert tunnel.size == 4
    for _ in range(5):
        bench_0_3.visit()
    assert tunnel.size == 6
    assert bench_0_3.owner.sizes == [6]
    tunnel.end("over")
    bench_0_3.visit()
    tunnel.tick()
    assert bench_0_3.owner.sizes == [6]
    assert tunnel.size == 0


def test_a_tick_lets_go_of_what_is_old_in_0_3_alone(bench, bench_0_3, monkeypatch):
    """A client of 0.2 does not replace what it has parked before it is told of the end."""
    for each in (bench, bench_0_3):
        each.park()
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + PARKED_AGE)
    monkeypatch.setattr("localtunnel.server.tunnels.pool.time", later)
    for each in (bench, bench_0_3):
        each.tunnel.tick()
    assert bench_0_3.proxies[0].recv(1) == b""
    assert not assigned(bench.proxies[0])
    assert "parked=1" in repr(bench.tunnel)


def test_a_client_hears_of_visitors_that_were_turned_away(either):
    either.visit(0.05)
    wait_until(lambda: either.refused)
    assert either.owner.notices == ["The server refused a request: 503 pool_exhausted. No connection was free in time."]
