"""localtunnel.net.closing: the ways a connection ends."""

import socket
import time

import gevent
import pytest
from harness import CAP, at_most, is_reset, pair, read_to_end, wait_until

from localtunnel.net import closing
from localtunnel.net.closing import Lingering
from localtunnel.net.deadline import Deadline, wait_readable

pytestmark = pytest.mark.usefixtures("no_leaks")

UNREAD = b"u" * 100_000


def test_close_sends_what_was_written_and_an_eof():
    theirs, ours = pair()
    theirs.send(b"last")
    closing.close(theirs)
    closing.close(theirs)
    assert read_to_end(ours) == b"last"
    ours.close()


def test_reset_lets_nobody_take_the_stream_for_complete():
    theirs, ours = pair()
    theirs.send(b"cut off")
    closing.reset(theirs)
    closing.reset(theirs)
    assert is_reset(ours)
    ours.close()


def test_wake_ends_a_wait_without_taking_the_socket_from_its_owner():
    theirs, ours = pair()
    waiter = gevent.spawn(wait_readable, theirs, Deadline(60))
    gevent.idle()
    closing.wake(theirs)
    with at_most(1):
        waiter.get()
    assert theirs.fileno() >= 0
    assert theirs.recv(1) == b""
    closing.close(theirs)
    closing.wake(theirs)
    ours.close()


def test_a_lingering_answer_outlives_bytes_that_nobody_read():
    lingering = Lingering()
    theirs, ours = pair()
    ours.sendall(UNREAD)
    lingering.linger(theirs, b"answer")
    # More after the answer: with a plain close these bytes would be answered with an RST.
    ours.sendall(UNREAD)
    assert read_to_end(ours) == b"answer"
    assert len(lingering) == 1
    ours.close()
    wait_until(lambda: len(lingering) == 0)
    assert theirs.fileno() == -1


def test_lingering_ends_when_the_peer_has_been_silent():
    lingering = Lingering(idle=0.05, total=60)
    theirs, ours = pair()
    lingering.linger(theirs)
    wait_until(lambda: theirs.fileno() == -1)
    assert len(lingering) == 0
    ours.close()


def test_a_peer_that_still_sends_is_waited_for():
    """An upload over a slow link: the visitor reads its answer behind the last byte."""
    lingering = Lingering(idle=0.5, total=60)
    theirs, ours = pair()
    lingering.linger(theirs, b"answer")
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        ours.sendall(b"more")
        gevent.sleep(0.05)
    assert theirs.fileno() >= 0
    assert read_to_end(ours) == b"answer"
    wait_until(lambda: theirs.fileno() == -1)
    ours.close()


def test_a_peer_that_sends_without_end_is_not_waited_for_without_end():
    lingering = Lingering(idle=0.5, total=1.0)
    theirs, ours = pair()
    lingering.linger(theirs)
    with at_most(CAP), pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            ours.sendall(b"more")
            gevent.sleep(0.05)
    assert len(lingering) == 0
    ours.close()


def test_lingering_ends_with_a_reset_of_the_peer():
    lingering = Lingering(60, 60)
    theirs, ours = pair()
    lingering.linger(theirs)
    closing.reset(ours)
    wait_until(lambda: theirs.fileno() == -1)


def test_a_last_word_arrives_whole_where_there_is_no_room_for_it_at_once():
    """What was answered before fills the buffers of a visitor that reads late; it ends its own direction as well."""
    lingering = Lingering(60, 60)
    theirs, ours = pair()
    before = fill(theirs)
    lingering.linger(theirs, b"answer" * 100_000)
    ours.shutdown(socket.SHUT_WR)
    gevent.idle()
    assert read_to_end(ours) == b"x" * before + b"answer" * 100_000
    wait_until(lambda: len(lingering) == 0)
    ours.close()


def test_a_last_word_that_nobody_reads_is_given_up():
    lingering = Lingering(idle=0.05, total=60)
    theirs, ours = pair()
    fill(theirs)
    lingering.linger(theirs, b"answer")
    wait_until(lambda: len(lingering) == 0)
    assert theirs.fileno() == -1
    ours.close()


def test_a_held_fin_comes_with_the_close_only():
    lingering = Lingering()
    theirs, ours = pair()
    theirs.send(b"error")
    lingering.hold(theirs, 0.3)
    assert ours.recv(100) == b"error"
    ours.settimeout(0.1)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    ours.settimeout(10)
    assert ours.recv(1) == b""
    ours.close()


def test_no_time_to_hold_is_a_close():
    lingering = Lingering()
    theirs, ours = pair()
    lingering.hold(theirs, 0)
    assert theirs.fileno() == -1
    assert len(lingering) == 0
    ours.close()


def test_a_flood_buys_no_more_descriptors_than_the_limit_and_ends_the_oldest(monkeypatch):
    monkeypatch.setattr(closing, "MAX_LINGERING", 3)
    lingering = Lingering()
    pairs = [pair() for _ in range(5)]
    for theirs, _ in pairs:
        lingering.linger(theirs)
    assert len(lingering) == 3
    assert [theirs.fileno() >= 0 for theirs, _ in pairs] == [False, False, True, True, True]
    lingering.end()
    assert len(lingering) == 0
    assert all(theirs.fileno() == -1 for theirs, _ in pairs)
    for _, ours in pairs:
        ours.close()


def test_each_owner_ends_its_own():
    one, another = Lingering(), Lingering()
    pairs = [pair(), pair()]
    theirs, neighbours = [theirs for theirs, _ in pairs]
    one.linger(theirs)
    another.linger(neighbours)
    one.end()
    assert theirs.fileno() == -1
    assert neighbours.fileno() >= 0
    another.end()
    for _, ours in pairs:
        ours.close()


def test_lingering_on_a_connection_that_was_reset_closes_it():
    lingering = Lingering(60, 60)
    theirs, ours = pair()
    closing.reset(ours)
    assert is_reset_now(theirs)
    lingering.linger(theirs)
    wait_until(lambda: theirs.fileno() == -1)


def fill(sock):
    """Send until nothing more has room, and return how much that was."""
    sent = 0
    while True:
        try:
            sent += sock.send(b"x" * 65536)
        except BlockingIOError:
            return sent


def is_reset_now(sock):
    """Wait until ``sock`` has heard of the reset, and take the error off it."""
    wait_readable(sock, Deadline(10))
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    return True


def test_the_oldest_goes_first_where_descriptors_are_short():
    lingering = Lingering()
    pairs = [pair(), pair()]
    for theirs, _ in pairs:
        lingering.linger(theirs)
    assert lingering.end_oldest()
    assert [theirs.fileno() >= 0 for theirs, _ in pairs] == [False, True]
    assert lingering.end_oldest()
    assert not lingering.end_oldest()
    for _, ours in pairs:
        ours.close()


def test_a_peer_that_floods_is_held_unread_and_reads_what_was_said_before():
    lingering = Lingering()
    theirs, ours = pair()
    theirs.send(b"flooded")
    lingering.hold(theirs, 0.5, read=False)
    ours.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += ours.send(UNREAD)
    assert sent > 0
    ours.settimeout(CAP)
    assert ours.recv(100) == b"flooded"
    wait_until(lambda: len(lingering) == 0)
    ours.close()
