"""Total deadlines, and the only way in which a greenlet waits for a socket."""

import socket
import time
from collections.abc import Callable

import gevent.socket

from localtunnel.errors import DeadlineExceeded


class Deadline:
    """A moment by which several steps together must be done. ``seconds`` None means never; ``clock`` is monotonic."""

    __slots__ = ("_at", "_clock", "seconds")

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._at = None if seconds is None else clock() + seconds

    def remaining(self) -> float | None:
        """Return the seconds left, never negative, or None when there is no end."""
        return None if self._at is None else max(0.0, self._at - self._clock())

    def check(self) -> float | None:
        """Return what remains. Raises DeadlineExceeded when nothing does."""
        remaining = self.remaining()
        if remaining == 0.0:
            raise DeadlineExceeded(f"Nothing was heard within {self.seconds:g} seconds.")
        return remaining


def wait_readable(sock: socket.socket, deadline: Deadline) -> None:
    """Block the greenlet until ``sock`` can be read, has ended or has failed. Raises DeadlineExceeded."""
    try:
        gevent.socket.wait_read(sock.fileno(), timeout=deadline.check())
    except TimeoutError:
        deadline.check()
        raise DeadlineExceeded(f"Nothing was heard within {deadline.seconds:g} seconds.") from None
