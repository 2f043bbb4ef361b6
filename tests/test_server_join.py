"""localtunnel.server.join: one visitor, bound to a proxy connection or refused."""

import gevent
import pytest
from harness import at_most, is_reset, pair, read_exactly, read_message, read_to_end, wait_until

from localtunnel.errors import PoolExhausted
from localtunnel.net import closing
from localtunnel.net.relay import SocketEnd
from localtunnel.protocol.framing import LTP_0_2
from localtunnel.server.join import Assignment, Join, Joins
from localtunnel.server.pool import Pool

pytestmark = pytest.mark.usefixtures("no_leaks")

FIRST = b"GET / HTTP/1.1\r\nHost: foo.localhost\r\n\r\n"


class Made:
    """A join with its visitor, and as many proxy connections as asked for."""

    def __init__(self, first=FIRST):
        sock, self.visitor = pair()
        self.sock = sock
        self.refused = []
        self.ended = []
        self.join = Join(Assignment(7, "203.0.113.7:51234", "http"), SocketEnd(sock, "visitor"), first, self.refuse)
        self.join.own(self.ended.append)
        self.proxies = []

    def refuse(self, error):
        self.refused.append(error)
        closing.close(self.sock)

    def parked(self):
        theirs, ours = pair()
        self.proxies.append(ours)
        pool = Pool(1)
        pool.park(SocketEnd(theirs, "client"), LTP_0_2)
        return pool.take_now()

    def close(self):
        self.join.abort("end of the test")
        for sock in (self.visitor, *self.proxies):
            sock.close()


@pytest.fixture
def made():
    bench = Made()
    yield bench
    bench.close()


def test_binding_sends_the_assignment_of_0_2_and_the_first_bytes(made):
    assert made.join.pending
    made.join.bind(made.parked())
    (proxy,) = made.proxies
    assert read_message(proxy) == {"proxy": True}
    assert read_exactly(proxy, len(FIRST)) == FIRST
    assert not made.join.pending
    proxy.sendall(b"answer")
    proxy.close()
    assert read_to_end(made.visitor) == b"answer"
    made.visitor.close()
    wait_until(lambda: made.ended)
    assert made.ended == [made.join]
    assert made.join.reason == "closed"
    assert (made.join.received, made.join.sent) == (len(FIRST), len(b"answer"))


def test_a_dead_proxy_connection_leaves_the_visitor_for_the_next_one(made):
    dead = made.parked()
    closing.reset(made.proxies[0])
    # The first write after a reset fails; what reports it is the write, since nothing watches the connection now.
    gevent.idle()
    assert made.join.bind(dead) is False
    assert made.join.pending
    assert dead.fileno() == -1
    assert made.join.bind(made.parked()) is True
    assert read_message(made.proxies[1]) == {"proxy": True}
    assert read_exactly(made.proxies[1], len(FIRST)) == FIRST


def test_abort_of_a_bound_join_resets_both(made):
    made.join.bind(made.parked())
    made.join.abort("first")
    made.join.abort("second")
    assert is_reset(made.visitor)
    assert is_reset(made.proxies[0])
    assert made.ended == [made.join]
    assert made.join.reason == "first"


def test_abort_of_a_waiting_join_resets_the_visitor(made):
    made.join.abort("first")
    made.join.abort("second")
    assert is_reset(made.visitor)
    assert made.ended == [made.join]
    assert made.join.reason == "first"
    assert not made.join.pending


def test_refusing_ends_the_join_and_lets_the_visitor_be_answered(made):
    error = PoolExhausted("none")
    made.join.refuse(error)
    made.join.refuse(error)
    made.join.abort("late")
    assert made.refused == [error]
    assert made.ended == [made.join]
    assert made.join.reason == "pool_exhausted"


def test_a_join_that_was_aborted_while_it_waited_is_never_bound(made):
    made.join.abort("server stopped")
    parked = made.parked()
    try:
        assert made.join.bind(parked) is False
    finally:
        parked.close()
    assert made.ended == [made.join]


def test_repr_says_who_and_how_it_stands(made):
    assert repr(made.join) == "<Join 7 of 203.0.113.7:51234 open>"
    made.join.abort("over")
    assert repr(made.join) == "<Join 7 of 203.0.113.7:51234 over>"


def test_joins_can_be_waited_for():
    joins = Joins()
    with at_most(1):
        joins.wait_until_empty(60)
    first, second = Made(), Made()
    for made in (first, second):
        joins.add(made.join)
        made.join.own(joins.discard)
    assert len(joins) == 2
    joins.wait_until_empty(0.01)
    assert set(joins) == {first.join, second.join}
    waiter = gevent.spawn(joins.wait_until_empty, 60)
    first.close()
    assert len(joins) == 1
    second.close()
    with at_most(1):
        waiter.join()


def test_all_joins_can_be_aborted_at_once():
    joins = Joins()
    everything = [Made() for _ in range(3)]
    for made in everything:
        joins.add(made.join)
        made.join.own(joins.discard)
    joins.abort_all("server stopped")
    assert len(joins) == 0
    assert [made.join.reason for made in everything] == ["server stopped"] * 3
    for made in everything:
        made.close()
