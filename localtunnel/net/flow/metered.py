"""A limit on bytes a second for any number of connections: an end of a relay that
pauses when the limit is used up.

To the pump, a paused end is one with nothing to read and no room. Connections without a
limit have no such end, and pay nothing.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.flow.ends import End
from localtunnel.net.sockets import READ

BURST = 0.25
"""Seconds of the rate that may be saved up. A page is served at once, and the average
of a second is near the rate."""

LEAST_BURST = 64 * 1024
"""Bytes that may be saved up at any rate: a few small answers are not to be slowed
down."""

LEAST_PIECE = 32 * 1024
"""The least bytes of one read or write: a record of TLS, 16 KiB, has to fit."""

PIECE_TIME = 0.1
"""The most seconds of the rate for one piece, so that connections take turns and none
waits for long."""


class Allowance:
    """A token bucket of ``rate`` bytes a second, which may be changed at any time.
    ``clock`` is monotonic.

    One piece may take it into debt; the next connection waits until that is paid.
    """

    __slots__ = ("__weakref__", "_at", "_clock", "_credit", "rate")

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._at = clock()
        self._credit = float(LEAST_BURST)

    def spend(self, size: int) -> None:
        """Note that ``size`` bytes have passed."""
        self._credit -= size

    def wait(self) -> float:
        """Return the seconds until bytes may pass, 0 for now."""
        now = self._clock()
        self._credit = min(self._credit + (now - self._at) * self.rate, max(LEAST_BURST, self.rate * BURST))
        self._at = now
        return 0.0 if self._credit >= 0 else -self._credit / self.rate


class MeteredEnd:
    """``end`` under a limit: bytes read from it and written to it are taken from
    ``bucket``. It owns ``end``."""

    __slots__ = ("_bucket", "_end", "label", "sock", "watcher")

    def __init__(self, end: End, bucket: Allowance) -> None:
        self.label = end.label
        self.sock = end.sock
        self.watcher = _Gate(end.watcher)
        self._end = end
        self._bucket = bucket

    @property
    def has_pending(self) -> bool:
        """As that of ``end``; False during a pause."""
        return self._end.has_pending and not self.watcher.paused

    @property
    def is_quiet(self) -> bool:
        """As that of ``end``, limit or not."""
        return self._end.is_quiet

    @property
    def descriptor(self) -> int:
        """-1: the bytes have to be counted."""
        return -1

    def try_read(self, buffer: bytearray | memoryview) -> int:
        """Read a piece. Raises BlockingIOError while the limit is used up."""
        most = self._allowance()
        with memoryview(buffer) as view, view[:most] as part:
            size = self._end.try_read(part)
        self._bucket.spend(size)
        return size

    def try_write(self, data: bytes | memoryview) -> int:
        """Write a piece. Raises BlockingIOError while the limit is used up."""
        most = self._allowance()
        with memoryview(data) as view, view[:most] as part:
            size = self._end.try_write(part)
        self._bucket.spend(size)
        return size

    def _allowance(self) -> int:
        """Return the bytes of one piece. While none may pass, pause and raise
        BlockingIOError."""
        seconds = self._bucket.wait()
        if seconds:
            self.watcher.pause(seconds)
            raise BlockingIOError
        return max(LEAST_PIECE, int(self._bucket.rate * PIECE_TIME))

    @property
    def written(self) -> int:
        """As that of ``end``."""
        return self._end.written

    @property
    def goes_on(self) -> bool:
        """As that of ``end``."""
        return self._end.goes_on

    def unlimited(self) -> End:
        """Return ``end``, which is the caller's from now on."""
        self.watcher.close()
        return self._end

    def shutdown_write(self) -> None:
        """End this direction of the stream, limit or not."""
        self._end.shutdown_write()

    def close(self) -> None:
        """Close the end."""
        self.watcher.close()
        self._end.close()

    def reset(self) -> None:
        """Close the end so that the peer sees a failure."""
        self.watcher.close()
        self._end.reset()


class _Gate:
    """The watcher of a metered end, which reports no events during a pause."""

    __slots__ = ("_callback", "_timer", "_watcher", "active", "events")

    def __init__(self, watcher: Any) -> None:
        self.active = False
        self.events = READ
        self._callback: Callable[[], None] | None = None
        self._timer: Any = None
        self._watcher = watcher

    @property
    def paused(self) -> bool:
        """Whether the end pauses."""
        return self._timer is not None

    def start(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever one of ``events`` comes."""
        self.active = True
        self._callback = callback
        if not self.paused:
            self._watcher.events = self.events
            self._watcher.start(callback)

    def stop(self) -> None:
        """Call nobody any more."""
        self.active = False
        self._callback = None
        self._watcher.stop()

    def feed(self, events: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` as if ``events`` had come."""
        if not self.paused:
            self._watcher.feed(events, callback)

    def pause(self, seconds: float) -> None:
        """Tell of nothing for ``seconds``, and then of everything, for some of it may
        have come."""
        if not self.paused:
            self._watcher.stop()
            self._timer = gevent.get_hub().loop.timer(seconds)
            self._timer.start(self._resume)

    def close(self) -> None:
        """End the pause; the watcher itself is the end's to close."""
        self.active = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _resume(self) -> None:
        self._timer.close()
        self._timer = None
        if self.active and self._callback is not None:
            self._watcher.events = self.events
            self._watcher.start(self._callback)
            self._watcher.feed(self.events, self._callback)
