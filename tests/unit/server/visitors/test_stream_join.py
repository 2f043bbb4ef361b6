"""localtunnel.server.tunnels.join: one visitor, bound to a proxy connection or refused."""

import gevent
import pytest
from harness import at_most, is_reset, pair, read_exactly, read_to_end, wait_until

from localtunnel.errors import PoolExhausted, UpstreamClosed
from localtunnel.net import closing
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.join import Joins
from localtunnel.server.visitors.stream_join import StreamJoin

pytestmark = pytest.mark.usefixtures("no_leaks")

FIRST = b"GET / HTTP/1.1\r\nHost: foo.localhost\r\n\r\n"


class Made:
    """A join with its visitor, and as many proxy connections as asked for."""

    def __init__(self, first=FIRST, kind="http"):
        sock, self.visitor = pair()
        self.sock = sock
        self.refused = []
        self.ended = []
        self.cancelled = 0
        self.join = StreamJoin(Assignment(7, "203.0.113.7:51234", kind), SocketEnd(sock, "visitor"), first, self.refuse)
        self.join.own(self.ended.append)
        self.join.cancel = self.cancel
        self.proxies = []

    def refuse(self, error):
        self.refused.append(error)
        closing.close(self.sock)

    def cancel(self):
        self.cancelled += 1

    def end_of_proxy(self):
        theirs, ours = pair()
        self.proxies.append(ours)
        return SocketEnd(theirs, "client")

    def relay(self, to_visitor=b"", to_upstream=b"", hold_eof=False):
        """Bind the join to a proxy connection, and return the client's end of that."""
        self.join.joined(self.end_of_proxy(), to_visitor, to_upstream, hold_eof=hold_eof)
        return self.proxies[-1]

    def close(self):
        self.join.abort("end of the test")
        for sock in (self.visitor, *self.proxies):
            sock.close()


@pytest.fixture
def made():
    bench = Made()
    yield bench
    bench.close()


def test_relaying_passes_on_what_was_read_before_and_what_comes(made):
    assert made.join.pending
    proxy = made.relay(to_visitor=b"early ", to_upstream=FIRST)
    assert not made.join.pending
    assert made.join.cancel is None
    assert read_exactly(proxy, len(FIRST)) == FIRST
    made.visitor.sendall(b"body")
    assert read_exactly(proxy, 4) == b"body"
    proxy.sendall(b"answer")
    proxy.close()
    assert read_to_end(made.visitor) == b"early answer"
    made.visitor.close()
    wait_until(lambda: made.ended)
    assert made.ended == [made.join]
    assert made.join.reason == "closed"
    assert made.refused == []


@pytest.mark.parametrize("rest", [b"", FIRST[10:], FIRST, b"half an assignment" + FIRST])
def test_the_visitors_bytes_are_counted_once_whichever_way_they_went(made, rest):
    """What went out with the assignment has not been through the relay; some of the assignment may have."""
    proxy = made.relay(to_upstream=rest)
    assert read_exactly(proxy, len(rest)) == rest
    assert made.join.received == len(FIRST)
    made.visitor.sendall(b"body")
    proxy.sendall(b"answer")
    assert read_exactly(made.visitor, 6) == b"answer"
    assert read_exactly(proxy, 4) == b"body"
    assert (made.join.received, made.join.sent) == (len(FIRST) + 4, 6)


@pytest.mark.parametrize("hold_eof", [False, True])
def test_a_visitors_fin_is_passed_on_or_held(made, hold_eof):
    proxy = made.relay(hold_eof=hold_eof)
    made.visitor.shutdown(1)
    proxy.settimeout(0.1)
    if hold_eof:
        with pytest.raises(TimeoutError):
            proxy.recv(1)
    else:
        assert proxy.recv(1) == b""
    proxy.sendall(b"answer")
    proxy.close()
    assert read_to_end(made.visitor) == b"answer"


@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_an_http_visitor_whose_upstream_ends_without_a_byte_is_answered(made, end):
    end(made.relay(to_upstream=b""))
    wait_until(lambda: made.refused)
    assert [type(error) for error in made.refused] == [UpstreamClosed]
    assert made.ended == [made.join]
    assert made.join.reason == "upstream_closed"
    made.join.abort("late")
    assert made.join.reason == "upstream_closed"


def test_after_a_byte_of_the_upstreams_the_visitor_is_not_answered_again(made):
    proxy = made.relay(to_visitor=b"H")
    closing.reset(proxy)
    assert is_reset(made.visitor)
    wait_until(lambda: made.ended)
    assert made.refused == []
    assert made.join.reason == "client reset"


def test_a_visitor_that_has_gone_first_is_not_answered(made):
    closing.reset(made.visitor)
    proxy = made.relay()
    assert is_reset(proxy)
    wait_until(lambda: made.ended)
    assert made.refused == []
    assert made.join.reason == "visitor reset"


def test_a_visitor_of_tcp_gets_the_end_and_no_page():
    made = Made(b"", "tcp")
    made.relay().close()
    assert read_to_end(made.visitor) == b""
    made.visitor.close()
    wait_until(lambda: made.ended)
    assert made.refused == []
    assert made.join.reason == "closed"
    made.close()


def test_abort_of_a_bound_join_resets_both(made):
    proxy = made.relay()
    made.join.abort("first")
    made.join.abort("second")
    assert is_reset(made.visitor)
    assert is_reset(proxy)
    assert made.ended == [made.join]
    assert made.join.reason == "first"


def test_abort_of_a_waiting_join_resets_the_visitor(made):
    made.join.abort("first")
    made.join.abort("second")
    assert is_reset(made.visitor)
    assert made.cancelled == 1
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


def test_repr_says_who_and_how_it_stands(made):
    assert repr(made.join) == "<StreamJoin 7 of 203.0.113.7:51234 open>"
    made.join.abort("over")
    assert repr(made.join) == "<StreamJoin 7 of 203.0.113.7:51234 over>"


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


def test_repeated_assignments_are_counted_when_their_join_has_ended():
    joins = Joins()
    for assigned in (0, 1, 3):
        made = Made()
        made.join.assigned = assigned
        joins.add(made.join)
        made.join.own(joins.discard)
        assert joins.repeated == 0
        made.close()
    assert joins.repeated == 2
