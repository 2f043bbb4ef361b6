"""localtunnel.net.closing: the ways a connection ends."""

import gevent
import pytest
from harness import at_most, is_reset, pair, read_to_end, wait_until

from localtunnel.net import closing
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
    theirs, ours = pair()
    ours.sendall(UNREAD)
    theirs.send(b"answer")
    closing.linger(theirs, 60)
    # More after the answer: with a plain close these bytes would be answered with an RST.
    ours.sendall(UNREAD)
    assert read_to_end(ours) == b"answer"
    assert closing.lingering() == 1
    ours.close()
    wait_until(lambda: closing.lingering() == 0)
    assert theirs.fileno() == -1


def test_lingering_ends_when_its_time_is_over():
    theirs, ours = pair()
    closing.linger(theirs, 0.05)
    wait_until(lambda: theirs.fileno() == -1)
    assert closing.lingering() == 0
    ours.close()


def test_lingering_ends_with_a_reset_of_the_peer():
    theirs, ours = pair()
    closing.linger(theirs, 60)
    closing.reset(ours)
    wait_until(lambda: theirs.fileno() == -1)


def test_a_held_fin_comes_with_the_close_only():
    theirs, ours = pair()
    theirs.send(b"error")
    closing.linger(theirs, 0.3, fin=False)
    assert ours.recv(100) == b"error"
    ours.settimeout(0.1)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    ours.settimeout(10)
    assert ours.recv(1) == b""
    ours.close()


def test_no_time_to_linger_is_a_close():
    theirs, ours = pair()
    closing.linger(theirs, 0)
    assert theirs.fileno() == -1
    assert closing.lingering() == 0
    ours.close()


def test_a_flood_buys_no_more_descriptors_than_the_limit(monkeypatch):
    monkeypatch.setattr(closing, "MAX_LINGERING", 3)
    pairs = [pair() for _ in range(5)]
    for theirs, _ in pairs:
        closing.linger(theirs, 60)
    assert closing.lingering() == 3
    assert [theirs.fileno() >= 0 for theirs, _ in pairs] == [True, True, True, False, False]
    closing.end_lingering()
    assert closing.lingering() == 0
    assert all(theirs.fileno() == -1 for theirs, _ in pairs)
    for _, ours in pairs:
        ours.close()


def test_lingering_on_a_connection_that_was_reset_closes_it():
    theirs, ours = pair()
    closing.reset(ours)
    assert is_reset_now(theirs)
    closing.linger(theirs, 60)
    wait_until(lambda: theirs.fileno() == -1)


def is_reset_now(sock):
    """Wait until ``sock`` has heard of the reset, and take the error off it."""
    wait_readable(sock, Deadline(10))
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    return True
