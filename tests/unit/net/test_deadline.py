"""localtunnel.net.deadline: a total time over several steps."""

import time
import weakref

import gevent
import pytest
from harness import at_most, pair, wait_until
from harness.clock import Clock

from localtunnel.errors import DeadlineExceeded
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, Expiry, wait_readable

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_what_remains_shrinks_over_the_steps_and_never_below_zero():
    clock = Clock()
    deadline = Deadline(5.0, clock)
    assert deadline.remaining() == 5.0
    clock.now += 3.0
    assert deadline.check() == 2.0
    clock.now += 10.0
    assert deadline.remaining() == 0.0


def test_the_error_says_how_long_was_waited():
    clock = Clock()
    deadline = Deadline(2.5, clock)
    clock.now += 2.5
    with pytest.raises(DeadlineExceeded, match=r"within 2\.5 seconds\.$"):
        deadline.check()


def test_none_never_ends():
    clock = Clock()
    deadline = Deadline(None, clock)
    clock.now += 1e9
    assert deadline.remaining() is None
    assert deadline.check() is None


def test_waiting_ends_with_the_deadline_and_not_after_each_step():
    theirs, ours = pair()
    deadline = Deadline(0.2)

    def drip():
        while True:
            ours.send(b"x")
            gevent.sleep(0.01)

    dripper = gevent.spawn(drip)
    try:
        with at_most(2), pytest.raises(DeadlineExceeded):
            while True:
                wait_readable(theirs, deadline)
                theirs.recv(100)
    finally:
        dripper.kill()
        closing.close(theirs)
        ours.close()


def test_a_socket_that_never_becomes_ready_costs_the_deadline():
    theirs, ours = pair()
    with at_most(2), pytest.raises(DeadlineExceeded):
        wait_readable(theirs, Deadline(0.05))
    closing.close(theirs)
    ours.close()


def test_a_socket_that_is_ready_does_not_wait():
    theirs, ours = pair()
    ours.send(b"x")
    with at_most(1):
        wait_readable(theirs, Deadline(60))
    closing.close(theirs)
    ours.close()


def test_nothing_is_waited_for_once_the_time_is_over():
    theirs, ours = pair()
    ours.send(b"x")
    with pytest.raises(DeadlineExceeded):
        wait_readable(theirs, Deadline(0))
    closing.close(theirs)
    ours.close()


def test_the_peers_end_wakes_the_one_who_waits():
    theirs, ours = pair()
    ours.close()
    with at_most(1):
        wait_readable(theirs, Deadline(60))
    assert theirs.recv(1) == b""
    closing.close(theirs)


# Expiry.


class Shelf:
    """An expiry, and what has expired, in order; ``look`` is the timer's callback, with a clock of the test's own."""

    def __init__(self, seconds=5.0):
        self.clock = Clock()
        self.expired = []
        self.expiry = Expiry(seconds, self.expired.append, self.clock)

    def pass_by(self, seconds):
        self.clock.now += seconds
        self.expiry._look()
        return self.expired


@pytest.fixture
def shelf():
    made = Shelf()
    yield made
    made.expiry.close()


def test_things_expire_in_turn_and_once(shelf):
    shelf.expiry.add("a")
    assert shelf.pass_by(2.0) == []
    shelf.expiry.add("b")
    assert shelf.pass_by(2.9) == []
    assert len(shelf.expiry) == 2
    assert shelf.pass_by(0.1) == ["a"]
    assert shelf.pass_by(2.0) == ["a", "b"]
    assert len(shelf.expiry) == 0


def test_what_is_discarded_does_not_expire(shelf):
    for item in "abc":
        shelf.expiry.add(item)
    shelf.expiry.discard("b")
    shelf.expiry.discard("b")
    shelf.expiry.discard("never there")
    assert shelf.pass_by(5.0) == ["a", "c"]


def test_what_is_added_again_begins_anew(shelf):
    shelf.expiry.add("a")
    shelf.expiry.add("b")
    shelf.clock.now += 3.0
    shelf.expiry.add("a")
    assert shelf.pass_by(2.0) == ["b"]
    assert shelf.pass_by(3.0) == ["b", "a"]


def test_what_expires_may_add_and_discard(shelf):
    def again(item):
        shelf.expired.append(item)
        shelf.expiry.discard("b")
        shelf.expiry.add("c")

    shelf.expiry._expired = lambda: again
    for item in "ab":
        shelf.expiry.add(item)
    assert shelf.pass_by(5.0) == ["a"]
    assert shelf.pass_by(5.0) == ["a", "c"]


def test_expiry_takes_its_own_time():
    """Each from when it was added on: not even a timer that was started for another, sooner, ends one early."""
    expired = {}
    expiry = Expiry(0.1, lambda item: expired.update({item: time.monotonic()}))
    expiry.add("gone")
    expiry.discard("gone")
    gevent.sleep(0.06)
    for item in "ab":
        added = time.monotonic()
        expiry.add(item)
        wait_until(lambda item=item: item in expired)
        assert expired[item] - added >= 0.09
    assert set(expired) == {"a", "b"}


def test_a_closed_expiry_holds_no_timer_and_nothing_expires(shelf):
    shelf.expiry.add("a")
    shelf.expiry.close()
    shelf.expiry.close()
    assert shelf.expiry._timer is None
    assert len(shelf.expiry) == 0


def test_a_method_is_held_weakly_and_its_object_goes_with_its_last_user():
    """Nobody is called for what expires after that, and the timer goes as well."""

    class Owner:
        def __init__(self):
            self.expiry = Expiry(0.01, self.expired)
            self.expiry.add("item")

        def expired(self, item):
            raise AssertionError(item)

    owner = Owner()
    expiry, gone = owner.expiry, weakref.ref(owner)
    del owner
    assert gone() is None
    wait_until(lambda: not len(expiry))
