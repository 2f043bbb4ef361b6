"""localtunnel.net.flow.pump: two sides, and the owner that decides what passes and how it ends."""

import os
import time

import gevent
import pytest
from harness import at_most, pair, read_exactly, wait_until

from localtunnel.net.flow.buffer import BUFFER_SIZE, FIRST_PIECE, LEAST_PIECE
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.pump import Side
from localtunnel.net.flow.splice import PIPE_SIZE, Pipe
from localtunnel.net.sockets import READ, WRITE

pytestmark = pytest.mark.usefixtures("no_leaks")


class Bound:
    """Two sides and their peers ``a`` and ``b``; as their owner it notes what it is told."""

    def __init__(self, *, filtered=False):
        sock_a, self.a = pair()
        sock_b, self.b = pair()
        self.side_a, self.side_b = Side(SocketEnd(sock_a, "a")), Side(SocketEnd(sock_b, "b"))
        self.names = {self.side_a: "a", self.side_b: "b"}
        self.told = []
        self.passes = lambda side, data: data
        self.side_a.bind(self, self.side_b, filtered=filtered)
        self.side_b.bind(self, self.side_a, filtered=filtered)
        self.side_a.watch()
        self.side_b.watch()

    def filter(self, side, data):
        return self.passes(side, data)

    def unseen(self, side):
        """Everything is looked at."""
        return 0

    def read_ended(self, side):
        self.told.append(("read ended", self.names[side]))

    def read_failed(self, side, error):
        self.told.append(("read failed", self.names[side]))
        self.close(side)

    def all_written(self, side):
        self.told.append(("all written", self.names[side]))
        # The other side is not read any more: its watcher has nothing left to wait for.
        side.other.watch()

    def write_failed(self, side):
        self.told.append(("write failed", self.names[side]))
        side.backlog = b""
        self.close(side)

    def close(self, side):
        if not side.closed:
            side.close(reset=True)

    def close_all(self):
        for side in (self.side_a, self.side_b):
            self.close(side)
        for sock in (self.a, self.b):
            sock.close()


@pytest.fixture
def bound():
    made = Bound()
    yield made
    made.close_all()


@pytest.fixture
def filtering():
    made = Bound(filtered=True)
    yield made
    made.close_all()


def test_bytes_pass_both_ways_and_are_counted(bound):
    bound.a.sendall(b"question")
    assert read_exactly(bound.b, 8) == b"question"
    bound.b.sendall(b"answer")
    assert read_exactly(bound.a, 6) == b"answer"
    assert (bound.side_a.count, bound.side_b.count) == (8, 6)
    assert bound.told == []


def test_who_does_not_read_stops_the_other(bound):
    data = os.urandom(1_000_000) * 10
    sending = gevent.spawn(bound.a.sendall, data)
    wait_until(lambda: bound.side_b.backlog, what="b is behind")
    counted = bound.side_a.count
    gevent.idle()
    assert bound.side_a.count == counted
    # By then the flow may have been large for long enough to have a pipe.
    assert len(bound.side_b.backlog) <= (PIPE_SIZE if isinstance(bound.side_b.backlog, Pipe) else BUFFER_SIZE)
    assert bound.side_b._watcher.events == READ | WRITE
    assert not bound.side_a._watcher.active
    bound.b.sendall(b"the other way is free")
    assert read_exactly(bound.a, 21) == b"the other way is free"
    assert read_exactly(bound.b, len(data)) == data
    sending.get()
    assert bound.side_a.count == len(data)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "behind a backlog"])
def test_the_end_is_told_once_and_everything_before_it_was_written(bound, late):
    data = os.urandom(1_000_000) * (8 if late else 1)
    sending = gevent.spawn(lambda: (bound.a.sendall(data), bound.a.shutdown(1)))
    if late:
        wait_until(lambda: bound.side_b.backlog)
    assert read_exactly(bound.b, len(data)) == data
    wait_until(lambda: ("read ended", "a") in bound.told)
    gevent.idle()
    assert bound.told.count(("read ended", "a")) == 1
    sending.get()


def test_a_reset_is_told(bound):
    bound.a.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
    bound.a.close()
    wait_until(lambda: bound.told == [("read failed", "a")])


def test_a_side_that_takes_no_more_is_told(bound):
    bound.side_b.end.sock.shutdown(1)
    bound.a.sendall(b"x")
    wait_until(lambda: bound.told == [("write failed", "b")])


def test_a_filter_decides_what_passes(filtering):
    filtering.passes = lambda side, data: bytes(data).upper() if filtering.names[side] == "a" else b""
    filtering.a.sendall(b"loud")
    assert read_exactly(filtering.b, 4) == b"LOUD"
    filtering.b.sendall(b"nothing of this")
    wait_until(lambda: filtering.side_b.count == 15)
    filtering.passes = lambda side, data: data
    filtering.b.sendall(b"but this")
    assert read_exactly(filtering.a, 8) == b"but this"


def test_a_filter_may_end_the_reading(filtering):
    def last(side, data):
        side.reading = False
        return data[:4]

    filtering.passes = last
    filtering.a.sendall(b"lastmore")
    assert read_exactly(filtering.b, 4) == b"last"
    wait_until(lambda: filtering.told == [("all written", "b")])
    filtering.a.sendall(b"unread")
    gevent.idle()
    assert filtering.side_a.count == 8


def test_what_a_filter_let_through_last_is_written_before_that_is_told(filtering):
    total = 0

    def until_enough(side, data):
        nonlocal total
        total += len(data)
        side.reading = total < 6_000_000
        return data

    filtering.passes = until_enough
    data = os.urandom(6_000_000)
    sending = gevent.spawn(filtering.a.sendall, data)
    wait_until(lambda: filtering.side_b.backlog)
    assert filtering.told == []
    assert read_exactly(filtering.b, len(data)) == data
    wait_until(lambda: filtering.told == [("all written", "b")])
    sending.get()


def test_a_filter_may_close_both(filtering):
    def close(side, data):
        filtering.side_a.close(reset=False)
        filtering.side_b.close(reset=False)
        return b""

    filtering.passes = close
    filtering.a.sendall(b"x")
    assert filtering.b.recv(1) == b""
    assert filtering.told == []


def test_what_is_discarded_is_read_and_counted_only(bound):
    bound.side_a.discarding = True
    bound.a.sendall(b"x" * 1000)
    wait_until(lambda: bound.side_a.count == 1000)
    bound.b.sendall(b"answer")
    assert read_exactly(bound.a, 6) == b"answer"
    bound.side_a.discarding = False
    bound.a.sendall(b"heard")
    assert read_exactly(bound.b, 5) == b"heard"


def test_what_is_written_by_the_owner_goes_out_whole(bound):
    data = os.urandom(8_000_000)
    bound.side_b.write(data)
    assert bound.side_b.backlog
    bound.side_b.watch()
    assert read_exactly(bound.b, len(data)) == data
    wait_until(lambda: not bound.side_b.backlog)


def test_a_side_may_serve_one_owner_after_the_other():
    first = Bound()
    first.a.sendall(b"to b")
    assert read_exactly(first.b, 4) == b"to b"
    first.side_a.unbind()
    first.side_a.unbind()
    first.side_b.unbind()
    seen = []
    first.side_a.watch_for(lambda: seen.append(first.side_a.end.sock.recv(10)))
    first.a.sendall(b"nobody's")
    wait_until(lambda: seen == [b"nobody's"])
    second = Bound()
    second.side_b.unbind()
    second.names[first.side_a] = "first a"
    first.side_a.bind(second, second.side_a, filtered=False)
    second.side_a.bind(second, first.side_a, filtered=False)
    assert first.side_a.count == 0
    first.side_a.watch()
    second.side_a.watch()
    first.a.sendall(b"to another")
    assert read_exactly(second.a, 10) == b"to another"
    assert second.told == []
    first.close_all()
    second.close_all()


class Endless:
    """``end`` with more at hand than one read takes: there is always something pending."""

    descriptor = -1

    def __init__(self, end):
        self.end, self.label, self.watcher = end, end.label, end.watcher
        self.has_pending = True
        self.reads = 0
        self.close, self.reset, self.try_write = end.close, end.reset, end.try_write
        self.shutdown_write = end.shutdown_write

    def try_read(self, buffer):
        self.reads += 1
        buffer[:1] = b"x"
        return 1


def test_an_end_that_always_has_more_lets_others_have_their_turn():
    sock_a, a = pair()
    sock_b, b = pair()
    owner = Bound()
    endless = Endless(SocketEnd(sock_a, "a"))
    side_a, side_b = Side(endless), Side(SocketEnd(sock_b, "b"))
    owner.names.update({side_a: "a", side_b: "b"})
    side_a.bind(owner, side_b, filtered=False)
    side_b.bind(owner, side_a, filtered=False)
    side_a.watch()
    side_b.watch()
    reads = []
    with at_most(5, "the neighbour's turns"):
        for _ in range(8):
            owner.a.sendall(b"n")
            assert read_exactly(owner.b, 1) == b"n"
            reads.append(endless.reads)
    assert reads == sorted(set(reads)), "it is read on, in turns of its own"
    side_a.close(reset=True)
    side_b.close(reset=True)
    owner.close_all()
    a.close()
    b.close()


@pytest.mark.parametrize("filtered", [True, False])
def test_pieces_that_are_slow_to_go_through_become_small_and_large_again(filtered):
    """A filter that takes 20 microseconds for each byte, as for a chunk of one byte."""
    made = Bound(filtered=True)
    if not filtered:
        made.side_a.filtered = made.side_b.filtered = False
    sizes = []

    def slow(side, data):
        sizes.append(len(data))
        began = time.perf_counter()
        while time.perf_counter() - began < len(data) * 20e-6:
            pass
        return data

    made.passes = slow
    data = os.urandom(200_000)
    sending = gevent.spawn(made.a.sendall, data)
    if filtered:
        assert read_exactly(made.b, 100_000) == data[:100_000]
        assert max(sizes[1:]) <= LEAST_PIECE
        assert max(sizes) <= FIRST_PIECE
        made.passes = lambda side, data: sizes.append(len(data)) or data
        del sizes[:]
        assert read_exactly(made.b, 100_000) == data[100_000:]
        sending.get()
        made.a.sendall(os.urandom(1_000_000))
        read_exactly(made.b, 1_000_000)
        assert max(sizes) > FIRST_PIECE
    else:
        assert read_exactly(made.b, len(data)) == data
        assert sizes == []
    sending.get()
    made.close_all()
