"""Bytes between two ends, untouched, until both directions have ended;
``net.flow.pump`` moves them.

EOF on one end becomes a FIN on the other, and the reverse direction goes on
(half-close, RFC 9293 3.6). A reset on one end resets the other, so that a truncated
stream never looks complete. An end that takes no more bytes may still have an answer,
as to an upload that it refuses early: that is passed on first.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net import closing
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.pump import Side
from localtunnel.net.flow.splice import PIPE_SIZE
from localtunnel.net.sockets import TIMED_OUT, has_peer_ended, is_acknowledged, pending_error

HELD_EOF_IDLE = 60.0
"""Seconds without an answer after which a held EOF is passed on after all."""

HELD_EOF_ANSWERED = 5.0
"""The same once ``b`` has answered: most likely in full, on a connection that it keeps
alive."""

ABANDONED = 2.0
"""Seconds that ``b`` may go on sending after ``a`` has gone, so that it can read the
last bytes from ``a``. As a rule the visitor has cancelled a download, and every second
of it loads the client's link."""


class Relay:
    """Two ends bound together, ``a`` on the visitor's side and ``b`` on the upstream's.

    It owns both from ``start`` on, and calls ``on_end(reason)`` once, last, when each of
    them is closed or given back.

    ``hold_eof`` keeps the EOF of ``a`` from ``b`` until ``b`` has ended too, for a peer
    that takes a FIN as the end of both directions. ``half_closed`` checks the relay
    while one side has ended.

    If ``b`` ends without a single byte, ``on_unanswered`` is called instead of
    ``on_end``, where it is given: ``b`` is closed then, and ``a`` is handed back
    untouched.

    ``give_back(end)`` gets an end that ``goes_on`` instead of its being closed, when
    both directions have ended with nothing lost.
    """

    __slots__ = (
        "_a",
        "_b",
        "_give_back",
        "_half_closed",
        "_hold_eof",
        "_on_end",
        "_on_unanswered",
        "_timer",
    )

    def __init__(
        self,
        a: End,
        b: End,
        on_end: Callable[[str], None],
        *,
        hold_eof: bool = False,
        on_unanswered: Callable[[], None] | None = None,
        half_closed: HalfClosed | None = None,
        give_back: Callable[[End], None] | None = None,
    ) -> None:
        self._a = Side(a)
        self._b = Side(b)
        self._a.bind(self, self._b, filtered=False)
        self._b.bind(self, self._a, filtered=False)
        self._half_closed = half_closed
        self._on_end = on_end
        self._hold_eof = hold_eof
        self._on_unanswered = on_unanswered
        self._give_back = give_back
        self._timer: Any = None

    @property
    def from_a(self) -> int:
        """Bytes read from ``a`` so far."""
        return self._a.count

    @property
    def from_b(self) -> int:
        """Bytes read from ``b`` so far."""
        return self._b.count

    @property
    def ended(self) -> bool:
        """Whether neither end is the relay's any more: it is closed or given back."""
        return self._a.closed

    def start(self, to_a: bytes = b"", to_b: bytes = b"") -> None:
        """Begin to pump. Bytes that were read before go first, and count as read from
        the other end."""
        self._a.count += len(to_b)
        self._b.count += len(to_a)
        self._a.backlog, self._b.backlog = to_a, to_b
        for side in (self._a, self._b):
            if side.backlog:
                side.flush()
        for side in (self._a, self._b):
            if not side.closed:
                side.watch()

    def abort(self, reason: str) -> None:
        """Reset both ends now. Idempotent; the first reason counts."""
        self._finish(reason, reset=True)

    # Called by the sides.

    def filter(self, side: Side, data: memoryview) -> memoryview:
        """Pass the bytes on unchanged; no side asks for this here."""
        return data

    def unseen(self, side: Side) -> int:
        """Return how many bytes nobody has to see."""
        return PIPE_SIZE

    def passed(self, side: Side, size: int) -> None:
        """Count nothing: the side has."""

    def read_ended(self, side: Side) -> None:
        """Pass the EOF of ``side`` on once everything before it was written."""
        if self._is_unanswered(side):
            return
        if side is self._a and self._is_holding():
            self._wait_with_eof()
        elif not side.other.backlog:
            self.all_written(side.other)
        if self._half_closed is not None and not self._a.closed:
            self._half_closed.add(self)

    def all_written(self, side: Side) -> None:
        """End ``side``'s direction: the other side has ended, and all its bytes were
        written."""
        if side is self._b and self._is_holding():
            return
        if not side.reading and not side.other.reading and not side.other.backlog:
            self._finish("closed")
            return
        if side.writable:
            side.writable = False
            try:
                side.end.shutdown_write()
            except OSError:
                self.abort(f"{side.end.label} failed")
                return
        if side.discarding:
            if side is self._a:
                self._drain(time.monotonic() + closing.TOTAL)
            else:
                self._start_timer(ABANDONED, self._finish, f"{side.other.end.label} closed early")

    def read_failed(self, side: Side, error: OSError) -> None:
        """Reset both, since ``side`` was reset or has timed out."""
        if self._is_unanswered(side):
            return
        if self._is_as_good_as_ended(side):
            side.reading = False
            side.watch()
            self.read_ended(side)
            return
        self.abort(_failed(side, error.errno))

    def write_failed(self, side: Side) -> None:
        """Drop the bytes for ``side``, which takes no more; pass on what it still
        sends."""
        side.backlog = b""
        side.writable = False
        side.other.discarding = True
        side.watch()
        side.other.watch()
        if not side.reading and not side.other.backlog:
            self.all_written(side.other)

    # While one side has ended.

    @property
    def moved(self) -> int:
        """Bytes written to either end so far."""
        return self._a.count + self._b.count - len(self._a.backlog) - len(self._b.backlog)

    @property
    def is_moving(self) -> bool:
        """Whether an EOF is held back, or a peer has not acknowledged all its bytes."""
        return self._is_holding() or not all(is_acknowledged(side.end.sock) for side in (self._a, self._b))

    def failure(self) -> str | None:
        """Return the reason if an end has failed that is not watched, because it has
        ended or the other has no room."""
        for side in (self._a, self._b):
            if not side.reading or side.other.backlog:
                error = pending_error(side.end.sock)
                if error:
                    return _failed(side, error)
        return None

    def look(self) -> None:
        """Check, now and then, an end that is not read because the other has no room.

        No event tells meanwhile that it has failed or ended.
        """
        for side in (self._a, self._b):
            if side.reading and side.other.backlog:
                reason = self.failure()
                if reason is not None:
                    self.abort(reason)
                    return
                if self._half_closed is not None and has_peer_ended(side.end.sock):
                    self._half_closed.add(self)

    def give_up(self, reason: str | None) -> None:
        """Reset both ends for ``reason``; None means that the end that could still send
        is silent."""
        silent = self._b if self._b.backlog or not self._a.reading else self._a
        self.abort(reason or f"{silent.end.label} silent")

    # The ends of a relay.

    def _forget_half_closed(self) -> None:
        if self._half_closed is not None:
            self._half_closed.discard(self)

    def _is_unanswered(self, side: Side) -> bool:
        if self._on_unanswered is None or side is not self._b or side.count or not self._a.writable:
            return False
        self._stop_timer()
        self._forget_half_closed()
        self._b.close(reset=False)
        self._a.unbind()
        self._a.closed = True
        on_unanswered = self._on_unanswered
        self._forget_owner()
        on_unanswered()
        return True

    def _is_holding(self) -> bool:
        """Whether the EOF of ``a`` is held: ``b`` may still answer, and the answer is
        taken."""
        return self._hold_eof and self._b.reading and not self._b.discarding

    def _wait_with_eof(self) -> None:
        count = self._b.count
        self._start_timer(HELD_EOF_ANSWERED if count else HELD_EOF_IDLE, self._held_long_enough, count)

    def _held_long_enough(self, count: int) -> None:
        if self._b.count != count:
            self._wait_with_eof()
            return
        self._hold_eof = False
        if not self._b.backlog:
            self.all_written(self._b)

    def _drain(self, ends_at: float) -> None:
        """Go on reading from ``a``, which has its answer and still sends bytes that
        ``b`` does not take.

        It may read the answer only after it has sent all of them, so it gets as much
        time as any lingering connection.
        """
        seconds = min(closing.IDLE, ends_at - time.monotonic())
        self._start_timer(max(0.0, seconds), self._drained_for_a_while, self._a.count, ends_at)

    def _drained_for_a_while(self, count: int, ends_at: float) -> None:
        if self._a.count == count or time.monotonic() >= ends_at:
            self._finish(f"{self._b.end.label} closed early")
        else:
            self._drain(ends_at)

    def _start_timer(self, seconds: float, callback: Callable[..., None], *arguments: object) -> None:
        self._stop_timer()
        self._timer = timer = gevent.get_hub().loop.timer(seconds)
        timer.start(callback, *arguments)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _finish(self, reason: str, *, reset: bool = False) -> None:
        if self._a.closed:
            return
        self._stop_timer()
        self._forget_half_closed()
        on_end, give_back = self._on_end, self._give_back
        self._forget_owner()
        kept = None if reset or give_back is None else self._kept()
        for side in (self._a, self._b):
            if side is not kept:
                side.close(reset=reset)
        if kept is not None and give_back is not None:
            kept.closed = True
            kept.unbind()
            give_back(kept.end)
        on_end(reason)

    def _kept(self) -> Side | None:
        """Return the side whose connection goes on, if the relay has ended well."""
        if self._is_lossy() or self._a.reading or self._b.reading:
            return None
        return next((side for side in (self._b, self._a) if side.end.goes_on), None)

    def _is_as_good_as_ended(self, side: Side) -> bool:
        """Whether it makes no difference that ``side`` has failed, and not ended."""
        return side.other.discarding

    def _is_lossy(self) -> bool:
        """Whether bytes were dropped that a side took no more."""
        return self._a.discarding or self._b.discarding

    def _forget_owner(self) -> None:
        """Drop the callbacks: the owner holds the relay, and the cycle would wait for
        the collector."""
        self._on_end = _ignore
        self._on_unanswered = self._give_back = None


def _failed(side: Side, error: int | None) -> str:
    return f"{side.end.label} {'timed out' if error in TIMED_OUT else 'reset'}"


def _ignore(reason: str) -> None:
    """Replace a callback that was called."""
