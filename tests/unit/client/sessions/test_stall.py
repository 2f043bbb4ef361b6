"""Noticing a stall: clocks of the test's own for the rule, and a real session for what it must not do."""

import time

import gevent
import pytest
from harness.inprocess import running_client
from harness.peers import RawServer, frame, read_message
from harness.sockets import read_exactly
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.client.events import TunnelLost, TunnelOpened
from localtunnel.client.sessions import session, stall
from localtunnel.client.sessions.stall import STALLED, TICK, Stall, boot_time


class Clocks:
    """A monotonic clock, and one that goes on while the machine sleeps."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.monotonic = 1000.0
        self.boottime = self.monotonic + ahead
        self.stall = Stall(lambda: self.monotonic, lambda: self.boottime)

    def run(self, seconds: float) -> None:
        """Time passes, and the process may or may not be running."""
        self.monotonic += seconds
        self.boottime += seconds

    def sleep(self, seconds: float) -> None:
        """The machine sleeps."""
        self.boottime += seconds


@pytest.mark.parametrize("ahead", [0.0, 86_400.0])
def test_ticks_in_time_are_no_stall(ahead: float) -> None:
    """Whatever the machine slept before the client began does not count."""
    clocks = Clocks(ahead)
    for _ in range(1000):
        clocks.run(TICK)
        assert clocks.stall.seconds() == 0
        clocks.stall.tick()


@pytest.mark.parametrize("late", [0.0, 0.5, 2.0, STALLED - 0.01])
def test_a_late_tick_is_no_stall(late: float) -> None:
    clocks = Clocks()
    clocks.run(TICK + late)
    assert clocks.stall.seconds() == 0


@pytest.mark.parametrize("slept", [STALLED, 60.0, 8 * 3600.0])
@pytest.mark.parametrize("since_tick", [0.0, 0.4, TICK])
def test_a_machine_that_slept(slept: float, since_tick: float) -> None:
    clocks = Clocks(ahead=7.0)
    clocks.run(since_tick)
    clocks.sleep(slept)
    assert clocks.stall.seconds() == pytest.approx(slept)


def test_a_nap_is_no_stall() -> None:
    clocks = Clocks()
    clocks.run(TICK)
    clocks.sleep(STALLED - 0.01)
    assert clocks.stall.seconds() == 0


@pytest.mark.parametrize("stood", [STALLED, 60.0])
def test_a_process_that_was_stopped(stood: float) -> None:
    """SIGSTOP: both clocks go on, and no tick comes."""
    clocks = Clocks()
    clocks.run(TICK + stood)
    assert clocks.stall.seconds() == pytest.approx(stood)


def test_a_stall_is_told_until_the_next_tick() -> None:
    clocks = Clocks()
    clocks.sleep(100)
    assert clocks.stall.seconds() == pytest.approx(100)
    assert clocks.stall.seconds() == pytest.approx(100)
    clocks.stall.tick()
    assert clocks.stall.seconds() == 0


def test_short_naps_do_not_add_up_over_ticks() -> None:
    clocks = Clocks()
    for _ in range(10):
        clocks.run(TICK)
        clocks.sleep(STALLED * 0.9)
        assert clocks.stall.seconds() == 0
        clocks.stall.tick()


def test_naps_between_two_ticks_add_up() -> None:
    clocks = Clocks()
    clocks.sleep(STALLED * 0.6)
    clocks.run(0.2)
    clocks.sleep(STALLED * 0.6)
    assert clocks.stall.seconds() == pytest.approx(STALLED * 1.2)


times = st.floats(0, 1e6)


@given(times, times)
def test_whatever_happens_the_longer_of_both_is_told_or_nothing(ran: float, slept: float) -> None:
    clocks = Clocks()
    clocks.run(ran)
    clocks.sleep(slept)
    told = clocks.stall.seconds()
    longest = max(slept, ran - TICK)
    assert told == pytest.approx(longest, abs=1e-6) if longest > STALLED + 1e-6 else told in (0, pytest.approx(STALLED))


def test_the_boot_time_never_runs_behind() -> None:
    first = boot_time()
    assert first <= boot_time()
    assert first >= time.monotonic() - 1


def test_a_system_without_a_boot_time_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic()
    assert before <= boot_time() <= time.monotonic()


def test_a_real_stall_object_that_ticks_sees_none() -> None:
    watch = Stall()
    watch.tick()
    assert watch.seconds() == 0


# The session.


def test_a_server_that_is_slow_to_answer_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaching the server and its answer may take longer than STALLED; nobody stood still in that time."""
    monkeypatch.setattr(stall, "STALLED", 0.3)
    monkeypatch.setattr(stall, "TICK", 0.05)
    monkeypatch.setattr(session, "TICK", 0.05)
    with RawServer() as server:
        target = "127.0.0.1:1"
        settings = {"backend": f"127.0.0.1:{server.port}", "name": "demo", "opened": False, "insecure": True}
        with running_client(("127.0.0.1", 1), target, **settings) as running:
            control = server.accept_silently()
            assert read_exactly(control, 7) == b"LTP/0.3"
            read_message(control)
            # The delay is what is on trial: the server's, several times the shortened STALLED.
            gevent.sleep(1.0)
            control.sendall(
                frame({"control": {"host": "demo.localhost", "concurrency": 1, "session": "s" * 32, "heartbeat": 0.2}})
            )
            running.wait_for(TunnelOpened)
            # Several ticks go by with three heartbeats.
            for _ in range(3):
                assert read_message(control) == {"control": "ping"}
                control.sendall(frame({"control": "pong"}))
            assert running.seen(TunnelLost) == []
