"""Total deadlines, for one thing or for many of a kind, and the only way for a greenlet
to wait for sockets."""

import socket
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import MethodType
from typing import Any, Generic, TypeVar

import gevent
import gevent.select
import gevent.socket

from localtunnel.errors import DeadlineExceeded

_AT_ONCE = 1e-9

UNHEARD = "Nothing was received"
UNANSWERED = "There was no answer"
"""What did not happen before a deadline: the beginning of a sentence."""


class Deadline:
    """One deadline over several steps. ``seconds`` None means no limit; ``clock`` is
    monotonic."""

    __slots__ = ("_at", "_clock", "seconds")

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._at = None if seconds is None else clock() + seconds

    def remaining(self) -> float | None:
        """Return the seconds left, never negative, or None without a limit."""
        return None if self._at is None else max(0.0, self._at - self._clock())

    def check(self, what: str = UNHEARD) -> float | None:
        """Return the seconds left. Raises ``expired(what)`` when there are none."""
        remaining = self.remaining()
        if remaining == 0.0:
            raise self.expired(what)
        return remaining

    def expired(self, what: str = UNHEARD) -> DeadlineExceeded:
        """Return the error for a deadline that has passed; ``what`` did not happen
        before."""
        return DeadlineExceeded(f"{what} within {self.seconds:g} seconds.")


Item = TypeVar("Item", bound=Hashable)


class Expiry(Generic[Item]):
    """Items with the same time to live, which share one timer in the hub.

    ``expired(item)`` is called once for each item, ``seconds`` after it was last added,
    unless it was discarded. A bound method is held weakly: its object owns this one,
    and the pair would wait for the cyclic collector.
    """

    __slots__ = ("_clock", "_expired", "_items", "_timer", "seconds")

    def __init__(
        self, seconds: float, expired: Callable[[Item], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._expired: Callable[[], Callable[[Item], None] | None] = (
            weakref.WeakMethod(expired) if isinstance(expired, MethodType) else lambda: expired
        )
        self._clock = clock
        self._items: dict[Item, float] = {}
        self._timer: Any = None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of now; they may change meanwhile."""
        return iter(list(self._items))

    def add(self, item: Item) -> None:
        """Add ``item``, or begin its time anew."""
        self._items.pop(item, None)
        self._items[item] = self._clock()
        if self._timer is None:
            self._arm(self.seconds)

    def discard(self, item: Item) -> None:
        """Forget ``item``. Idempotent."""
        self._items.pop(item, None)

    def close(self) -> None:
        """Forget every item; none expires any more. Idempotent."""
        self._items.clear()
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._look)

    def _look(self) -> None:
        """Expire the items that are due. A discard leaves the timer running, so that it
        costs no call."""
        self._timer.close()
        self._timer = None
        now = self._clock()
        while self._items:
            item, added = next(iter(self._items.items()))
            left = added + self.seconds - now
            if left > 0:
                if self._timer is None:
                    self._arm(left)
                return
            del self._items[item]
            expired = self._expired()
            if expired is not None:
                expired(item)


def take_turn() -> None:
    """Let the hub poll once and serve what is ready, before the greenlet goes on.

    Only a timer does that: ``gevent.sleep(0)`` is a callback, and the hub runs
    callbacks for a while before it polls.
    """
    gevent.sleep(_AT_ONCE)


def wait_readable(sock: socket.socket, deadline: Deadline) -> None:
    """Block the greenlet until ``sock`` can be read, has ended or has failed. Raises
    DeadlineExceeded."""
    _wait(gevent.socket.wait_read, sock, deadline)


def wait_writable(sock: socket.socket, deadline: Deadline) -> None:
    """Block the greenlet until ``sock`` has room or has failed. Raises
    DeadlineExceeded."""
    _wait(gevent.socket.wait_write, sock, deadline)


def _wait(wait: Callable[..., None], sock: socket.socket, deadline: Deadline) -> None:
    try:
        wait(sock.fileno(), timeout=deadline.check())
    except TimeoutError:
        raise deadline.expired() from None


def wait_any_writable(descriptors: Iterable[int], deadline: Deadline, seconds: float | None) -> list[int]:
    """Block the greenlet until some of ``descriptors`` are connected or have failed:
    none of them after ``seconds``.

    Raises DeadlineExceeded.
    """
    waits = [each for each in (deadline.check(UNANSWERED), seconds) if each is not None]
    poll = gevent.select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, gevent.select.POLLOUT)
    return [descriptor for descriptor, _ in poll.poll(min(waits) * 1000 if waits else None)]
