"""localtunnel.server.tunnels.pool: the idle proxy connections of one tunnel."""

import gevent
import pytest
from gevent.event import AsyncResult
from harness import at_most, pair, wait_until

from localtunnel.errors import PoolExhausted
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol.limits import PARKED_AGE
from localtunnel.server.tunnels import pool as pool_module
from localtunnel.server.tunnels.pool import Pool

pytestmark = pytest.mark.usefixtures("no_leaks")


class Bench:
    """A pool, and the peers of what is parked in it."""

    def __init__(self, max_waiting=100):
        self.suspicions = []
        self.pool = Pool(max_waiting, lambda: self.suspicions.append(self.pool.suspect))
        self.peers = []
        self.taken = []

    def park(self, count=1):
        """Park ``count`` connections, which are labelled ``0``, ``1`` … in the order of parking."""
        for _ in range(count):
            theirs, ours = pair()
            self.pool.park(SocketEnd(theirs, str(len(self.peers))))
            self.peers.append(ours)

    def take(self, seconds=5.0):
        """Return the label of the next connection: one that is parked, or the first to come."""
        label = self.take_now()
        if label is not None:
            return label
        given = AsyncResult()
        waiter = self.pool.wait(Deadline(seconds), given.set, given.set_exception)
        try:
            parked = given.get()
        finally:
            waiter.cancel()
        self.taken.append(parked)
        return parked.label

    def take_or_refusal(self):
        """Return what ``take`` raises, so that a greenlet does not die of it."""
        try:
            return self.take()
        except PoolExhausted as error:
            return error

    def take_now(self):
        parked = self.pool.take_now()
        if parked is None:
            return None
        self.taken.append(parked)
        return parked.label

    def wait_in_line(self, count):
        """Return greenlets that wait for a connection, in the order in which they came."""
        greenlets = []
        for _ in range(count):
            greenlets.append(gevent.spawn(self.take_or_refusal))
            wait_until(lambda: self.pool.waiting == len(greenlets))
        return greenlets

    def close(self):
        self.pool.close()
        for parked in self.taken:
            parked.close()
        for sock in self.peers:
            sock.close()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


def test_the_newest_comes_first(bench):
    bench.park(3)
    assert len(bench.pool) == 3
    assert [bench.take_now(), bench.take(), bench.take_now()] == ["2", "1", "0"]
    assert bench.take_now() is None
    assert len(bench.pool) == 0


def test_what_is_taken_is_open_and_watched_no_longer(bench):
    bench.park()
    parked = bench.pool.take_now()
    bench.taken.append(parked)
    bench.peers[0].sendall(b"the visitor's answer")
    gevent.idle()
    assert not parked.dead
    assert parked.sock.recv(100) == b"the visitor's answer"


def close_peer(sock):
    sock.close()


def reset_peer(sock):
    closing.reset(sock)


def speak_early(sock):
    sock.sendall(b"unasked")


@pytest.mark.parametrize("die", [close_peer, reset_peer, speak_early])
def test_one_that_becomes_readable_is_closed_and_skipped(bench, die):
    bench.park(3)
    die(bench.peers[2])
    wait_until(lambda: len(bench.pool) == 2)
    assert repr(bench.pool) == "<Pool parked=2 dead=1 waiting=0>"
    assert [bench.take_now(), bench.take_now(), bench.take_now()] == ["1", "0", None]
    assert repr(bench.pool) == "<Pool parked=0 dead=0 waiting=0>"


def test_a_dead_one_in_the_middle_is_skipped_by_a_waiter(bench):
    bench.park(2)
    for peer in bench.peers:
        peer.close()
    wait_until(lambda: len(bench.pool) == 0)
    waiter = bench.wait_in_line(1)[0]
    bench.park()
    assert waiter.get() == "2"


def test_those_who_wait_are_served_in_the_order_in_which_they_came(bench):
    waiters = bench.wait_in_line(5)
    order = []
    for number, waiter in enumerate(waiters):
        waiter.rawlink(lambda _, number=number: order.append(number))
    bench.park(5)
    gevent.joinall(waiters, timeout=5, raise_error=True)
    assert order == [0, 1, 2, 3, 4]
    assert bench.pool.waiting == 0


def test_one_who_comes_later_does_not_overtake_those_who_wait(bench):
    waiters = bench.wait_in_line(2)
    bench.park()
    # One still waits: whatever is parked next is for that one.
    assert bench.take_now() is None
    bench.park()
    gevent.joinall(waiters, timeout=5, raise_error=True)
    bench.park()
    assert bench.take_now() == "2"


def test_waiting_ends_with_the_deadline(bench):
    with at_most(3), pytest.raises(PoolExhausted, match="no free connection"):
        bench.take(0.05)
    assert bench.pool.waiting == 0
    bench.park()
    assert bench.take_now() == "0"


def test_more_than_the_limit_do_not_wait():
    bench = Bench(max_waiting=2)
    waiters = bench.wait_in_line(2)
    with at_most(1), pytest.raises(PoolExhausted, match="Too many visitors"):
        bench.take(60)
    assert bench.pool.waiting == 2
    bench.park(2)
    gevent.joinall(waiters, timeout=5, raise_error=True)
    bench.close()


def test_closing_turns_those_away_who_wait(bench):
    waiters = bench.wait_in_line(3)
    bench.pool.close()
    gevent.joinall(waiters, timeout=5)
    assert all(isinstance(waiter.value, PoolExhausted) for waiter in waiters)
    assert bench.pool.waiting == 0


def test_closing_closes_what_is_parked_and_what_is_parked_later(bench):
    bench.park(2)
    bench.pool.close()
    bench.pool.close()
    bench.park()
    assert [peer.recv(1) for peer in bench.peers] == [b"", b"", b""]
    assert len(bench.pool) == 0
    assert bench.take_now() is None
    with at_most(1), pytest.raises(PoolExhausted):
        bench.take(60)


def test_a_waiter_that_is_killed_leaves_its_place(bench):
    first, second = bench.wait_in_line(2)
    first.kill()
    assert bench.pool.waiting == 1
    bench.park()
    assert second.get(timeout=5) == "0"


def entries_held(size):
    """Return how many entries a pool holds at most while ``size`` connections come and die, a few alive at a time."""
    bench = Bench()
    most = 0
    for _ in range(size):
        bench.park()
        bench.peers.pop(0).close()
        wait_until(lambda: len(bench.pool) == 0)
        most = max(most, bench.pool._queue.qsize())
    bench.close()
    return most


def test_the_dead_do_not_pile_up():
    once, twice = entries_held(50), entries_held(100)
    assert once == twice
    assert once <= 10


def test_dying_costs_the_same_for_each_however_many_there_are(bench, monkeypatch):
    """The queue is rebuilt when half of it is dead, so N deaths move fewer than 2 N entries."""
    moved = 0
    lose = bench.pool.lose

    def counting(parked):
        nonlocal moved
        before = bench.pool._queue.qsize()
        lose(parked)
        moved += bench.pool._queue.qsize() if bench.pool._queue.qsize() < before else 0

    monkeypatch.setattr(bench.pool, "lose", counting)
    bench.park(200)
    for peer in bench.peers:
        peer.close()
    wait_until(lambda: len(bench.pool) == 0)
    assert 0 < moved < 2 * 200


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The pool's clock, and no jitter: every connection is good for the whole time."""
    made = Clock()
    monkeypatch.setattr(pool_module, "time", made)
    monkeypatch.setattr(pool_module.random, "uniform", lambda low, high: high)
    return made


def test_what_has_been_parked_for_too_long_is_closed(bench, clock):
    bench.park(2)
    clock.now += PARKED_AGE / 2
    bench.park(1)
    bench.pool.expire()
    assert len(bench.pool) == 3
    clock.now += PARKED_AGE / 2
    bench.pool.expire()
    assert repr(bench.pool) == "<Pool parked=1 dead=2 waiting=0>"
    assert [peer.recv(1) for peer in bench.peers[:2]] == [b"", b""]
    assert [bench.take_now(), bench.take_now()] == ["2", None]


def test_what_was_parked_together_does_not_expire_together(bench, clock, monkeypatch):
    drawn = []

    def lowest(low, high):
        drawn.append((low, high))
        return low

    monkeypatch.setattr(pool_module.random, "uniform", lowest)
    bench.park()
    assert drawn == [(0.8, 1.0)]
    clock.now += 0.8 * PARKED_AGE
    bench.pool.expire()
    assert len(bench.pool) == 0


def test_a_suspicion_is_told_at_every_miss(bench):
    """What the client has parked since the last one may have died as well."""
    assert not bench.pool.suspect
    bench.pool.suspect_all()
    bench.pool.suspect_all()
    assert bench.suspicions == [True, True]


def test_one_who_has_had_a_dead_connection_gets_the_next_one_and_does_not_hold_up_newcomers(bench):
    """The newcomer may try what was parked before, some of which may live."""

    def wait(who, *, missed):
        def taken(end):
            served.append((who, end.label))
            end.close()

        return bench.pool.wait(Deadline(5.0), taken, None, missed=missed)

    served = []
    bench.park(1)
    wait("the first", missed=True)
    assert bench.take_now() == "0"
    waiters = [wait("a newcomer", missed=False), wait("the second", missed=True)]
    assert bench.pool.waiting == 3
    bench.park(2)
    assert served == [("the first", "1"), ("the second", "2")]
    bench.park(1)
    assert served[-1] == ("a newcomer", "3")
    for waiter in waiters:
        waiter.cancel()
    assert bench.pool.waiting == 0


def test_what_is_outdated_is_closed_when_its_client_is_asked_again(bench):
    """A client that was asked has closed it long ago; if its end has not come, the connection is dead in silence."""
    bench.park(2)
    bench.pool.outdate()
    bench.park(1)
    assert len(bench.pool) == 3
    bench.pool.outdate()
    assert repr(bench.pool) == "<Pool parked=1 dead=2 waiting=0>"
    assert [peer.recv(1) for peer in bench.peers[:2]] == [b"", b""]
    bench.pool.outdate()
    assert len(bench.pool) == 0
