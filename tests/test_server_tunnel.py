"""localtunnel.server.tunnel: visitors that come, wait, and go; and the tunnel's end."""

import socket

import gevent
import pytest
from harness import is_reset, pair, read_exactly, read_message, wait_until

from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.relay import SocketEnd
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.server.join import Assignment, Join, Joins
from localtunnel.server.tunnel import Tunnel

pytestmark = pytest.mark.usefixtures("no_leaks")


class Bench:
    """A tunnel, the peers of its proxy connections, and its visitors."""

    def __init__(self):
        self.joins = Joins()
        self.tunnel = Tunnel("foo", "me@laptop;Linux", "127.0.0.1", 10, self.joins)
        self.ends = []
        self.tunnel.on_end = self.ends.append
        self.proxies = []
        self.visitors = []
        self.refused = []

    def park(self):
        theirs, ours = pair()
        self.proxies.append(ours)
        self.tunnel.park(SocketEnd(theirs, "client"), LTP_0_2)
        return ours

    def visit(self, seconds=5.0):
        """Send a visitor in, whose first byte is its number; returns the visitor's end."""
        theirs, ours = pair()
        number = len(self.visitors)
        self.visitors.append(ours)

        def refuse(error):
            self.refused.append((number, error.code))
            closing.close(theirs)

        join = Join(Assignment(number, "v", "http"), SocketEnd(theirs, "visitor"), b"%d" % number, refuse)
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


def assigned_visitor(proxy):
    """Return the number of the visitor to which ``proxy`` was assigned."""
    assert read_message(proxy) == {"proxy": True}
    return int(read_exactly(proxy, 1))


def test_a_parked_connection_is_assigned_at_once(bench):
    proxy = bench.park()
    bench.visit()
    assert assigned_visitor(proxy) == 0
    assert bench.tunnel.visitors == 1
    assert len(bench.tunnel.joins) == len(bench.joins) == 1


def test_visitors_wait_and_are_served_in_the_order_in_which_they_came(bench):
    for _ in range(3):
        bench.visit()
    gevent.idle()
    assert [assigned_visitor(bench.park()) for _ in range(3)] == [0, 1, 2]
    assert bench.refused == []


def test_visitors_that_come_in_one_turn_of_the_hub_keep_their_order(bench):
    for _ in range(3):
        bench.visit()
    proxies = [bench.park() for _ in range(3)]
    assert sorted(assigned_visitor(proxy) for proxy in proxies) == [0, 1, 2]


def test_a_visitor_for_whom_nothing_comes_is_refused(bench):
    bench.visit(0.05)
    wait_until(lambda: bench.refused)
    assert bench.refused == [(0, "pool_exhausted")]
    assert len(bench.joins) == 0


def test_a_connection_that_died_in_silence_is_passed_over(bench):
    alive, dead = bench.park(), bench.park()
    closing.reset(dead)
    # Not a turn of the hub in between: the pool has not noticed, and the write has to.
    bench.visit()
    assert assigned_visitor(alive) == 0


def test_the_end_turns_waiting_visitors_away_and_closes_the_pool(bench):
    bench.visit()
    gevent.idle()
    bench.tunnel.end("no heartbeat")
    bench.tunnel.end("later")
    wait_until(lambda: bench.refused)
    assert bench.refused == [(0, "pool_exhausted")]
    assert bench.tunnel.ended == "no heartbeat"
    assert bench.ends == ["no heartbeat"]
    assert bench.park().recv(1) == b""


def test_the_end_closes_parked_connections_and_leaves_joins_alone(bench):
    idle, used = bench.park(), bench.park()
    visitor = bench.visit()
    assert assigned_visitor(used) == 0
    bench.tunnel.end("control connection closed")
    assert idle.recv(1) == b""
    used.sendall(b"still joined")
    assert visitor.recv(100) == b"still joined"


def test_a_visitor_that_is_aborted_while_it_waits_is_no_obstacle(bench):
    first = bench.visit()
    gevent.idle()
    bench.joins.abort_all("stopping")
    assert is_reset(first)
    bench.visit()
    gevent.idle()
    for _ in range(2):
        bench.park()
    wait_until(lambda: any(assigned(proxy) for proxy in bench.proxies), what="the second visitor's assignment")
    served = [proxy for proxy in bench.proxies if assigned(proxy)]
    assert [assigned_visitor(proxy) for proxy in served] == [1]


def assigned(sock):
    """Say whether something was sent to ``sock``."""
    try:
        return sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return False


def test_repr_says_how_it_stands(bench):
    bench.park()
    assert repr(bench.tunnel) == "<Tunnel foo <Pool parked=1 dead=0 waiting=0> joins=0 open>"
    bench.tunnel.end("over")
    assert repr(bench.tunnel) == "<Tunnel foo <Pool parked=0 dead=0 waiting=0> joins=0 over>"
