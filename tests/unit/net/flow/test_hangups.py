"""localtunnel.net.flow.hangups: peers that go while nobody reads from them."""

import resource
import socket
from collections.abc import Iterator

import gevent
import pytest
from harness import pair, wait_until
from harness.sockets import wait_until_arrived
from harness.v3 import end

from localtunnel.net import sockets
from localtunnel.net.flow.hangups import HangUps

pytestmark = pytest.mark.usefixtures("no_leaks")

UNREAD = b"u" * 100_000


@pytest.fixture
def gone() -> list[str]:
    return []


@pytest.fixture
def hang_ups() -> Iterator[HangUps]:
    hang_ups = HangUps()
    hang_ups.open()
    yield hang_ups
    hang_ups.close()


@pytest.mark.parametrize("unread", [b"", UNREAD], ids=["", "with bytes unread"])
@pytest.mark.parametrize("half_closed", [False, True], ids=["", "after its end"])
def test_a_reset_is_heard(hang_ups: HangUps, gone: list[str], unread: bytes, half_closed: bool) -> None:
    theirs, ours = pair()
    with theirs:
        ours.sendall(unread)
        if half_closed:
            ours.shutdown(socket.SHUT_WR)
        hang_ups.listen(theirs, lambda: gone.append("gone"))
        gevent.idle()
        assert not gone
        end(ours, "RST")
        wait_until(lambda: gone)
        gevent.idle()
    assert gone == ["gone"]
    assert len(hang_ups) == 0


def test_a_peer_that_has_ended_its_own_direction_is_still_there(hang_ups: HangUps, gone: list[str]) -> None:
    theirs, ours = pair()
    another_theirs, another_ours = pair()
    with theirs, ours, another_theirs:
        hang_ups.listen(theirs, lambda: gone.append("gone"))
        hang_ups.listen(another_theirs, lambda: gone.append("another"))
        ours.sendall(UNREAD)
        ours.shutdown(socket.SHUT_WR)
        wait_until_arrived(ours)
        # What happened on the first connection would be heard of before what happens on the second.
        end(another_ours, "RST")
        wait_until(lambda: gone)
        assert gone == ["another"]
        hang_ups.forget(theirs)
        hang_ups.forget(theirs)
        assert len(hang_ups) == 0


def test_a_peer_that_has_closed_for_good_is_heard_of_when_its_kernel_has_forgotten(
    hang_ups: HangUps, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute later, as a rule: here it forgets, and is asked, after a second."""
    asking = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
    monkeypatch.setattr(sockets, "_LIVENESS", [(getattr(socket, name), value) for name, value in asking.items()])
    theirs, ours = pair()
    with theirs:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        hang_ups.listen(theirs, lambda: gone.append("gone"))
        sockets.keep_asking(theirs)
        ours.close()
        wait_until(lambda: gone)


def test_a_peer_is_heard_of_while_no_descriptor_is_left(hang_ups: HangUps, gone: list[str]) -> None:
    """Those that have gone and are not noticed would keep theirs."""
    theirs, ours = pair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with theirs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            hang_ups.listen(theirs, lambda: gone.append("gone"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        end(ours, "RST")
        wait_until(lambda: gone)


def test_what_the_kernel_does_not_take_is_no_error(hang_ups: HangUps, gone: list[str]) -> None:
    """It is asked for in the midst of work for others, which would be left undone. Here it refuses a second time."""
    theirs, ours = pair()
    with theirs, ours:
        hang_ups.listen(theirs, lambda: gone.append("first"))
        hang_ups.listen(theirs, lambda: gone.append("second"))
        end(ours, "RST")
        wait_until(lambda: gone)
    assert gone == ["first"]


def test_closed_it_hears_nothing(hang_ups: HangUps, gone: list[str]) -> None:
    theirs, ours = pair()
    with theirs:
        hang_ups.listen(theirs, lambda: gone.append("gone"))
        hang_ups.close()
        hang_ups.listen(theirs, lambda: gone.append("gone"))
        end(ours, "RST")
        gevent.idle()
        hang_ups.forget(theirs)
    assert not gone


def test_many_that_go_at_once_are_each_heard_of_once(hang_ups: HangUps, gone: list[str]) -> None:
    """The first to be heard of lets go of another, which is then not called."""
    pairs = [pair() for _ in range(20)]

    def forget_the_last(name: str) -> None:
        gone.append(name)
        hang_ups.forget(pairs[-1][0])

    for number, (theirs, _) in enumerate(pairs):
        hang_ups.listen(theirs, lambda number=number: forget_the_last(str(number)))
    hang_ups.forget(pairs[0][0])
    for _, ours in pairs:
        end(ours, "RST")
    wait_until(lambda: len(gone) >= 18 and len(hang_ups) == 0)
    assert len(set(gone)) == len(gone)
    assert "0" not in gone
    for theirs, _ in pairs:
        theirs.close()
