"""Total deadlines, for one thing or for many of a kind, and the only way in which a greenlet waits for a socket."""

import socket
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from types import MethodType
from typing import Any, Generic, TypeVar

import gevent
import gevent.socket

from localtunnel.errors import DeadlineExceeded

_AT_ONCE = 1e-9


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
            raise DeadlineExceeded(f"Nothing was received within {self.seconds:g} seconds.")
        return remaining


Item = TypeVar("Item", bound=Hashable)


class Expiry(Generic[Item]):
    """Things that all have the same time to live, oldest first: one timer for all of them, in the hub.

    ``expired(item)`` is called once for each that was not discarded ``seconds`` after it was added last. A method is
    held weakly: its object owns this one, and the two would wait for the cyclic collector.
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
        """Yield what is there, which may change meanwhile."""
        return iter(list(self._items))

    def add(self, item: Item) -> None:
        """Let ``item`` live from now on, which begins anew for one that is there."""
        self._items.pop(item, None)
        self._items[item] = self._clock()
        if self._timer is None:
            self._arm(self.seconds)

    def discard(self, item: Item) -> None:
        """Forget ``item``, whether it is there or not."""
        self._items.pop(item, None)

    def close(self) -> None:
        """Forget everything; nothing expires any more. May be called twice."""
        self._items.clear()
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._look)

    def _look(self) -> None:
        """Let go of what is due. A discarded item leaves the timer running: stopping it would cost each of them."""
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
    """Let the hub look once for what else is ready, and serve it, before the greenlet goes on.

    A timer does that. ``gevent.sleep(0)`` is a callback, and the hub runs callbacks for a while before it looks.
    """
    gevent.sleep(_AT_ONCE)


def wait_readable(sock: socket.socket, deadline: Deadline) -> None:
    """Block the greenlet until ``sock`` can be read, has ended or has failed. Raises DeadlineExceeded."""
    _wait(gevent.socket.wait_read, sock, deadline)


def wait_writable(sock: socket.socket, deadline: Deadline) -> None:
    """Block the greenlet until ``sock`` has room or has failed. Raises DeadlineExceeded."""
    _wait(gevent.socket.wait_write, sock, deadline)


def _wait(wait: Callable[..., None], sock: socket.socket, deadline: Deadline) -> None:
    try:
        wait(sock.fileno(), timeout=deadline.check())
    except TimeoutError:
        deadline.check()
        raise DeadlineExceeded(f"Nothing was received within {deadline.seconds:g} seconds.") from None
