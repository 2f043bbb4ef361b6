"""localtunnel.net.flow.half_closed: relays of which one side has ended, with real sockets on both sides."""

import socket
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket as green_socket
from harness import read_exactly, read_to_end, wait_until
from harness.relays import BULK, Bound, send_and_finish
from harness.sockets import deafen
from harness.v3 import end

from localtunnel.net.flow import half_closed
from localtunnel.net.flow import relay as relay_module
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.sockets import pending_error

pytestmark = pytest.mark.usefixtures("no_leaks")

PATIENCE = 0.4
ENDLESS = 60.0


@pytest.fixture
def watch() -> Iterator[HalfClosed]:
    made = HalfClosed(PATIENCE)
    yield made
    made.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[HalfClosed]:
    """Looks often and cuts nothing."""
    monkeypatch.setattr(half_closed, "LOOK", 0.02)
    made = HalfClosed(ENDLESS)
    yield made
    made.close()


def half_end(bound: Bound, first: str) -> tuple[green_socket.socket, green_socket.socket]:
    """End the named side; return it and the other one, which has been told."""
    ended, other = bound.peers(first)
    send_and_finish(ended, b"last words")
    assert read_to_end(other) == b"last words"
    return ended, other


def has_failed(sock: green_socket.socket) -> bool:
    """Say whether ``sock`` was reset, be it after its peer had ended."""
    return pending_error(sock) != 0


@pytest.mark.parametrize(("first", "silent"), [("a", "b"), ("b", "a")])
def test_when_one_side_has_ended_and_the_other_is_silent_both_are_reset(
    watch: HalfClosed, first: str, silent: str
) -> None:
    bound = Bound(half_closed=watch).start()
    ended, other = half_end(bound, first)
    assert len(watch) == 1
    wait_until(lambda: has_failed(ended) and has_failed(other), what="the cut")
    assert bound.end() == f"{silent} silent"
    assert len(watch) == 0


def test_as_long_as_something_moves_nothing_is_cut(watch: HalfClosed) -> None:
    bound = Bound(half_closed=watch).start()
    ended, other = half_end(bound, "a")
    for _ in range(12):
        other.sendall(b"event")
        assert read_exactly(ended, 5) == b"event"
        # The time in between is what is tested: shorter than the patience, in all several times as long.
        gevent.sleep(PATIENCE / 4)
    assert bound.reasons == []
    other.close()
    assert bound.end() == "closed"


def test_silence_before_the_end_of_either_side_does_not_count(watch: HalfClosed) -> None:
    bound = Bound(half_closed=watch).start()
    assert len(watch) == 0
    half_end(bound, "a")[1].close()
    assert bound.end() == "closed"
    assert len(watch) == 0


def overwhelm(bound: Bound) -> None:
    """Have ``a`` say more than is taken from it, for ``b`` reads nothing, and wait until it is not read any more."""
    bound.a.setblocking(False)
    while not bound.relay._b.backlog:
        try:
            bound.a.send(BULK[:4096])
        except BlockingIOError:
            gevent.sleep(0.001)


def test_a_side_that_has_gone_behind_what_nobody_takes_is_cut_too(watch: HalfClosed) -> None:
    """Its end is behind bytes that are not read, since the other side takes no more."""
    bound = Bound(half_closed=watch).start()
    overwhelm(bound)
    bound.relay.look()
    assert len(watch) == 0
    bound.a.shutdown(socket.SHUT_WR)
    wait_until(lambda: bound.relay.look() or len(watch) == 1, what="its end")
    wait_until(lambda: bound.reasons, what="the cut")
    assert bound.end() == "b silent"


def test_a_side_that_was_reset_behind_what_nobody_takes_is_noticed(patient: HalfClosed) -> None:
    bound = Bound(half_closed=patient).start()
    overwhelm(bound)
    end(bound.a, "RST")
    wait_until(lambda: bound.relay.look() or bound.reasons, what="the cut")
    assert bound.end() == "a reset"


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_reset_of_the_side_that_has_ended_is_noticed(patient: HalfClosed, first: str) -> None:
    bound = Bound(half_closed=patient).start()
    ended, other = half_end(bound, first)
    end(ended, "RST")
    wait_until(lambda: has_failed(other), what="the cut")
    assert bound.end() == f"{first} reset"


def test_a_side_that_has_died_after_its_end_is_noticed(patient: HalfClosed) -> None:
    """By TCP's own keepalive, which nothing tells of while the connection is not watched."""
    bound = Bound(half_closed=patient).start()
    ended, other = half_end(bound, "a")
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 1)):
        bound.sock_a.setsockopt(socket.IPPROTO_TCP, option, value)
    bound.sock_a.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    deafen(ended)
    wait_until(lambda: has_failed(other), what="the cut")
    assert bound.end() == "a timed out"


def test_what_the_peers_kernel_has_not_got_yet_is_no_silence(watch: HalfClosed) -> None:
    bound = Bound(half_closed=watch).start()
    _, other = half_end(bound, "b")
    deafen(bound.b)
    other.sendall(b"on its way")
    wait_until(lambda: bound.relay.is_moving)
    # Longer than the patience, in which nothing more is written.
    gevent.sleep(3 * PATIENCE)
    assert bound.reasons == []
    bound.relay.abort("enough")
    bound.end()


def test_while_an_eof_is_held_back_nothing_is_cut(watch: HalfClosed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "HELD_EOF_IDLE", 3 * PATIENCE)
    bound = Bound(hold_eof=True, half_closed=watch).start()
    send_and_finish(bound.a, b"question")
    assert read_to_end(bound.b) == b"question", "and the EOF comes, not a reset"
    assert bound.end() == "b silent"


def test_many_share_one_timer(watch: HalfClosed) -> None:
    loop = gevent.get_hub().loop
    made = [Bound(half_closed=watch).start() for _ in range(3)]
    half_end(made[0], "a")
    before = loop.activecnt
    for bound in made[1:]:
        half_end(bound, "a")
    # A side that has ended is watched no more, and there is no timer for it.
    assert loop.activecnt == before - 2
    for bound in made:
        assert bound.end() == "b silent"
