"""A relay between two peers of the test, and the bulk that is sent through it."""

import hashlib
import os
import socket
from collections.abc import Callable

import gevent
import pytest
from gevent import socket as green_socket

from harness.sockets import pair, read_to_end
from harness.waiting import at_most, wait_until
from localtunnel.net.flow import splice
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.relay import Relay
from localtunnel.net.flow.tapped import Tap, TappedRelay

MB = 1_000_000
BULK = os.urandom(10 * MB)
DIGEST = hashlib.sha256(BULK).digest()


class Recorder:
    """A tap that remembers what it was shown, and how much went by unseen: ``unneeded`` bytes at a time may.

    ``is_owed`` and ``is_at_rest`` are what it says of what has come.
    """

    def __init__(self, unneeded: int = 0) -> None:
        self.seen_from = {True: bytearray(), False: bytearray()}
        self.passed_from = {True: 0, False: 0}
        self.ends: list[bool] = []
        self.is_owed = False
        self.is_at_rest = False
        self._unneeded = unneeded

    def seen(self, data: memoryview, *, from_a: bool) -> None:
        """Remember the bytes."""
        self.seen_from[from_a] += data

    def unseen(self, *, from_a: bool) -> int:
        """Say how many are not needed."""
        return self._unneeded

    def passed(self, size: int, *, from_a: bool) -> None:
        """Remember how many."""
        assert size <= self._unneeded
        self.passed_from[from_a] += size

    def ended(self, *, from_a: bool) -> None:
        """Remember the end."""
        self.ends.append(from_a)


class Bound:
    """A relay between two peers of the test: what is written to ``a`` comes out of ``b``.

    ``bufsize`` bounds what the kernel holds for each of the four sockets; it grows by itself otherwise. With
    ``answers`` the test is given ``sock_a`` back when ``b`` ends without a byte; ``unanswered`` counts that.
    """

    def __init__(
        self,
        *,
        hold_eof: bool = False,
        make_end: Callable[[socket.socket, str], End] = SocketEnd,
        bufsize: int | None = None,
        answers: bool = False,
        tap: Tap | None = None,
        prompt: bool = False,
        half_closed: HalfClosed | None = None,
    ) -> None:
        sock_a, self.a = pair()
        sock_b, self.b = pair()
        for sock in () if bufsize is None else (sock_a, sock_b, self.a, self.b):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bufsize)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bufsize)
        self.reasons: list[str] = []
        self.sock_a = sock_a
        self.sock_b = sock_b
        self.unanswered = 0
        ends = make_end(sock_a, "a"), make_end(sock_b, "b")
        self.relay: Relay
        if tap is None and not prompt:
            unanswered = self._count_unanswered if answers else None
            self.relay = Relay(
                *ends, self.reasons.append, hold_eof=hold_eof, on_unanswered=unanswered, half_closed=half_closed
            )
        else:
            assert not hold_eof, "the client's relay holds no EOF"
            assert not answers, "nor does it give the server's end back"
            self.relay = TappedRelay(*ends, self.reasons.append, tap=tap, prompt=prompt, half_closed=half_closed)

    def _count_unanswered(self) -> None:
        self.unanswered += 1

    def start(self, **first: bytes) -> "Bound":
        """Start to relay, with the bytes that ``Relay.start`` takes."""
        self.relay.start(**first)
        return self

    def peers(self, first: str) -> tuple[green_socket.socket, green_socket.socket]:
        """Return both peers, the named one first."""
        return (self.a, self.b) if first == "a" else (self.b, self.a)

    def end(self) -> str:
        """Wait for the end and return its reason, which must have been told once."""
        wait_until(lambda: self.reasons, what="the end of the relay")
        assert len(self.reasons) == 1
        assert self.relay.ended
        self.a.close()
        self.b.close()
        return self.reasons[0]


def send_and_finish(sock: green_socket.socket, data: bytes) -> None:
    """Send ``data`` and the end of that direction."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def digest_to_end(sock: green_socket.socket) -> bytes:
    """Read to EOF and return the SHA-256 of what came."""
    return hashlib.sha256(read_to_end(sock)).digest()


def upload(sock: green_socket.socket) -> int | None:
    """Send ten megabytes without a look at any answer; returns the number of the error that stopped it, if one did."""
    try:
        sock.sendall(BULK)
    except OSError as error:
        return error.errno
    return None


def both_ways(bound: Bound) -> None:
    """Send the bulk from each side to the other at once, to the end of the relay."""
    writers = [gevent.spawn(send_and_finish, sock, BULK) for sock in (bound.a, bound.b)]
    readers = [gevent.spawn(digest_to_end, sock) for sock in (bound.a, bound.b)]
    with at_most(30):
        assert [reader.get() for reader in readers] == [DIGEST, DIGEST]
    gevent.joinall(writers, raise_error=True)
    assert bound.end() == "closed"
    assert (bound.relay.from_a, bound.relay.from_b) == (len(BULK), len(BULK))


def moves_into_pipes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of every move of bytes into a pipe."""
    sizes: list[int] = []
    fill = splice.Pipe.fill

    def spy(pipe: splice.Pipe, source: int, limit: int) -> int:
        sizes.append(fill(pipe, source, limit))
        return sizes[-1]

    monkeypatch.setattr(splice.Pipe, "fill", spy)
    return sizes
