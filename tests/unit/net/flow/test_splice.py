"""localtunnel.net.flow.splice: pipes, and a relay whose large flows go through them, or cannot."""

import errno
import fcntl
import hashlib
import os
import select
from functools import partial

import gevent
import pytest
from harness import at_most, is_reset, pair, read_exactly, read_to_end, wait_until
from harness.relays import BULK, DIGEST, MB, Bound, Recorder, both_ways, moves_into_pipes, send_and_finish

from localtunnel.net.flow import splice

pytestmark = [
    pytest.mark.usefixtures("no_leaks", "pipes"),
    pytest.mark.skipif(not hasattr(os, "splice"), reason="splice(2) is Linux's"),
]


@pytest.fixture
def pipes(monkeypatch):
    """Whatever a test makes of the bound is its own; no pipe may be open before or after."""
    before = splice.opened()
    monkeypatch.setattr(splice, "_most", splice.MAX_PIPES)
    yield
    assert splice.opened() == before


@pytest.fixture
def filled(monkeypatch):
    """The sizes of all moves into pipes."""
    return moves_into_pipes(monkeypatch)


def ready(sock):
    """Wait until ``sock`` has something to read, without the hub of the test."""
    wait_until(lambda: select.select([sock], [], [], 0)[0], what="bytes to read")


# A pipe by itself.


def test_a_pipe_moves_bytes_from_one_socket_to_another():
    (source, sender), (target, receiver) = pair(), pair()
    pipe = splice.take()
    with source, sender, target, receiver:
        sender.sendall(b"hello, world")
        ready(source)
        assert pipe.fill(source.fileno(), 5) == 5
        assert len(pipe) == 5
        pipe.drain(target.fileno())
        assert not pipe
        assert pipe.fill(source.fileno(), splice.PIPE_SIZE) == 7
        pipe.drain(target.fileno())
        assert read_exactly(receiver, 12) == b"hello, world"
        with pytest.raises(BlockingIOError):
            pipe.fill(source.fileno(), splice.PIPE_SIZE)
        assert not pipe
        sender.close()
        ready(source)
        assert pipe.fill(source.fileno(), splice.PIPE_SIZE) == 0
    pipe.close()


def test_what_is_in_a_pipe_can_be_read_instead():
    source, sender = pair()
    pipe = splice.take()
    with source, sender:
        sender.sendall(b"hello")
        ready(source)
        pipe.fill(source.fileno(), splice.PIPE_SIZE)
        assert pipe.read() == b"hello"
        assert not pipe
    pipe.close()


def test_a_closed_pipe_holds_nothing():
    source, sender = pair()
    pipe = splice.take()
    with source, sender:
        sender.sendall(b"hello")
        ready(source)
        pipe.fill(source.fileno(), splice.PIPE_SIZE)
    pipe.close()
    assert not pipe


def test_there_are_so_many_pipes_and_no_more():
    taken = [splice.take() for _ in range(splice.MAX_PIPES)]
    assert all(pipe is not None for pipe in taken)
    assert splice.take() is None
    taken.pop().close()
    taken.append(splice.take())
    for pipe in taken:
        pipe.close()


def refuse(*_, number, **__):
    raise OSError(number, os.strerror(number))


def test_pipes_that_the_kernel_keeps_small_are_not_taken(monkeypatch):
    monkeypatch.setattr(fcntl, "fcntl", partial(refuse, number=errno.EPERM))
    assert splice.take() is None
    monkeypatch.undo()
    # It is not asked again.
    assert splice.opened() == 0


def test_without_descriptors_there_is_no_pipe(monkeypatch):
    monkeypatch.setattr(os, "pipe2", partial(refuse, number=errno.EMFILE))
    assert splice.take() is None
    monkeypatch.undo()
    pipe = splice.take()
    assert pipe is not None
    pipe.close()


# A relay with them.


def test_a_large_flow_goes_through_a_pipe(filled):
    both_ways(Bound().start())
    assert sum(filled) > 2 * MB


@pytest.mark.parametrize("without", ["splice", "pipes"])
def test_without_pipes_it_goes_as_ever(filled, monkeypatch, without):
    if without == "splice":
        monkeypatch.setattr(splice, "_most", 0)
    else:
        monkeypatch.setattr(os, "pipe2", partial(refuse, number=errno.EMFILE))
    both_ways(Bound().start())
    assert not filled


@pytest.mark.parametrize("call", ["fill", "drain"])
def test_where_a_socket_cannot_be_spliced_no_byte_is_lost(monkeypatch, call):
    tried = []

    def cannot(*_):
        tried.append(call)
        refuse(number=errno.EINVAL)

    monkeypatch.setattr(splice.Pipe, call, cannot)
    both_ways(Bound().start())
    assert tried


def test_every_byte_comes_through_however_slowly_it_is_read(filled):
    bound = Bound(bufsize=64 * 1024).start()
    writer = gevent.spawn(send_and_finish, bound.a, BULK)
    digest = hashlib.sha256()
    with at_most(30):
        while data := bound.b.recv(20_011):
            digest.update(data)
    assert digest.digest() == DIGEST
    writer.get()
    bound.b.close()
    assert bound.end() == "closed"
    assert filled


MUCH = 4
"""Times BULK that are sent: more than what is read, and less than the kernel may hold for a connection (tcp_rmem)."""

ENDLESS = 1000
"""Times BULK that nobody ever takes, whatever the kernel holds."""


def offer(sock, times):
    """Send BULK so many times; return the number of the error that stopped it, if one did."""
    try:
        for _ in range(times):
            sock.sendall(BULK)
    except OSError as error:
        return error.errno
    return None


def stalled(bound, times):
    """Send until nobody takes any more, so that a pipe is full; return the greenlet that still sends."""
    writer = gevent.spawn(offer, bound.a, times)
    read_exactly(bound.b, 4 * MB)
    counts = []

    def stands_still():
        counts.append(bound.relay.from_a)
        return len(counts) > 5 and len(set(counts[-5:])) == 1

    wait_until(stands_still, what="a flow that stands still")
    assert splice.opened() == 1
    return writer


def test_a_reader_that_pauses_gets_the_rest_and_then_the_end(filled):
    bound = Bound().start()
    writer = stalled(bound, MUCH)
    with at_most(30):
        rest = gevent.spawn(read_to_end, bound.b)
        writer.get()
        bound.a.shutdown(1)
        assert rest.get() == (BULK * MUCH)[4 * MB :]
    bound.b.close()
    assert bound.end() == "closed"


def test_an_abort_drops_what_is_in_the_pipe_and_closes_it():
    bound = Bound().start()
    writer = stalled(bound, ENDLESS)
    bound.relay.abort("test")
    assert splice.opened() == 0
    assert writer.get() in (errno.ECONNRESET, errno.EPIPE)
    assert is_reset(bound.b)
    assert bound.end() == "test"


def test_a_reader_that_goes_away_ends_the_flow_and_the_pipe():
    bound = Bound().start()
    writer = stalled(bound, ENDLESS)
    bound.b.close()
    with at_most(30):
        writer.get()
    bound.end()
    assert splice.opened() == 0


def test_a_flow_that_is_large_no_more_gives_its_pipe_back(filled):
    bound = Bound().start()
    writer = gevent.spawn(bound.a.sendall, BULK)
    read_exactly(bound.b, len(BULK))
    writer.get()
    assert filled
    bound.a.sendall(b"small")
    assert read_exactly(bound.b, 5) == b"small"
    assert splice.opened() == 0
    moves = len(filled)
    for _ in range(20):
        bound.a.sendall(b"x" * 1000)
        read_exactly(bound.b, 1000)
    assert len(filled) == moves
    for sock in (bound.a, bound.b):
        sock.shutdown(1)
    bound.end()


@pytest.mark.parametrize("unneeded", [0, splice.LARGE - 1, splice.LARGE, 3 * splice.LARGE, 1 << 62])
def test_what_a_tap_needs_not_see_goes_through_a_pipe_and_nothing_else_does(filled, unneeded):
    tap = Recorder(unneeded)
    both_ways(Bound(tap=tap).start())
    for from_a in (True, False):
        assert len(tap.seen_from[from_a]) + tap.passed_from[from_a] == len(BULK)
    assert bool(filled) == (unneeded >= splice.LARGE)
    assert sum(tap.passed_from.values()) == sum(filled)
    assert not filled or max(filled) <= unneeded
