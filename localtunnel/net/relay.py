"""The pump: bytes between two ends until both directions have ended. The product's hot loop.

It runs in the hub, one read and one write per readiness event, with one buffer for all relays, so that an open
connection owns no greenlet and no buffer. An end that cannot take more stops the reading of the other (back pressure),
with at most one buffer's worth held in between.

How a direction ends (RFC 9293 3.6, half-close): EOF on one end becomes a FIN on the other, and the reverse direction
goes on. A reset on one end resets the other, so that a truncated stream never looks complete. An end that refuses bytes
but may still have an answer to give (an upload refused early) is drained to the other end first.
"""

import errno
import socket
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from localtunnel.net import closing

BUFFER_SIZE = 256 * 1024
"""What one readiness event moves at most: larger reads gained nothing on bulk, smaller ones lost a third."""

HELD_EOF_IDLE = 60.0
"""Seconds without an answer after which a held EOF is passed on after all: nobody waits for it any longer."""

HELD_EOF_ANSWERED = 5.0
"""The same once the other end has answered something: most likely all of it, on a connection that it keeps alive."""

_READ, _WRITE = 1, 2

_buffer = bytearray(BUFFER_SIZE)
_view = memoryview(_buffer)


class End(Protocol):
    """What the pump knows of an end. ``label`` names it in the reason for which a relay ended."""

    label: str

    def fileno(self) -> int:
        """Return the descriptor whose readiness is watched."""

    def try_read(self, buffer: bytearray) -> int:
        """Read into ``buffer``: the number of bytes, 0 at the end. Raises BlockingIOError when there is nothing."""

    def try_write(self, data: bytes | memoryview) -> int:
        """Write what fits and return how much. Raises BlockingIOError when nothing does."""

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more comes."""

    def close(self) -> None:
        """Close; what was written goes out first."""

    def reset(self) -> None:
        """Close so that the peer sees a failure."""


class SocketEnd:
    """A plain non-blocking socket as an end of a relay, which closes it."""

    __slots__ = ("fileno", "label", "sock", "try_read", "try_write")

    def __init__(self, sock: socket.socket, label: str) -> None:
        self.sock = sock
        self.label = label
        self.fileno = sock.fileno
        self.try_read = sock.recv_into
        self.try_write = sock.send

    def shutdown_write(self) -> None:
        """Send a FIN. A peer that is gone already needs none."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def close(self) -> None:
        """Close the socket."""
        closing.close(self.sock)

    def reset(self) -> None:
        """Close the socket with an RST."""
        closing.reset(self.sock)


class Relay:
    """Two ends bound together. It owns both from ``start`` on, and calls ``on_end(reason)`` once, when both are closed.

    ``hold_eof`` keeps ``a``'s EOF from ``b`` until ``b`` has ended too: for a peer that takes a FIN as the end of both
    directions.
    """

    __slots__ = ("_a", "_b", "_hold_eof", "_on_end", "_timer")

    def __init__(self, a: End, b: End, on_end: Callable[[str], None], *, hold_eof: bool = False) -> None:
        self._a = _Side(a, self)
        self._b = _Side(b, self)
        self._a.other, self._b.other = self._b, self._a
        self._on_end = on_end
        self._hold_eof = hold_eof
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
        """Whether both ends are closed."""
        return self._a.closed

    def start(self, to_a: bytes = b"", to_b: bytes = b"") -> None:
        """Begin to pump, with the bytes that were read before; they count as read from the other end."""
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
        """Reset both ends now. May be called twice; only the first reason counts."""
        self._finish(reason, reset=True)

    # What the sides tell.

    def read_ended(self, side: "_Side") -> None:
        """``side`` reached EOF: pass it on once everything before it has been written."""
        if side is self._a and self._is_holding():
            self._wait_with_eof()
        elif not side.other.backlog:
            self.all_written(side.other)

    def all_written(self, side: "_Side") -> None:
        """Everything read from the other side, which has ended, was written to ``side``."""
        if side is self._b and self._is_holding():
            return
        if side.writable:
            side.writable = False
            try:
                side.end.shutdown_write()
            except OSError:
                self.abort(f"{side.end.label} failed")
                return
        if not side.reading and not side.backlog and not side.other.reading and not side.other.backlog:
            self._finish("closed")
        elif side.discarding:
            self._start_timer(closing.LINGER, self._finish, f"{side.other.end.label} closed early")

    def read_failed(self, side: "_Side", error: OSError) -> None:
        """``side`` was reset, or timed out."""
        if side.other.discarding:
            side.reading = False
            self.read_ended(side)
            return
        reason = "timed out" if error.errno == errno.ETIMEDOUT else "reset"
        self.abort(f"{side.end.label} {reason}")

    def write_failed(self, side: "_Side") -> None:
        """``side`` takes no more bytes. What it still has to say is passed on; what was for it is dropped."""
        side.backlog = b""
        side.writable = False
        side.other.discarding = True
        if side.reading:
            side.watch()
            side.other.watch()
        elif not side.other.backlog:
            reason = f"{side.end.label} closed early"
            if side.other.reading:
                side.other.watch()
                self._start_timer(closing.LINGER, self._finish, reason)
            else:
                self._finish(reason)

    # The ends of a relay.

    def _is_holding(self) -> bool:
        """Whether ``a``'s EOF stays here for now: ``b`` may still answer, and somebody takes its answer."""
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

    def _start_timer(self, seconds: float, callback: Callable[..., None], argument: object) -> None:
        self._stop_timer()
        self._timer = timer = gevent.get_hub().loop.timer(seconds)
        timer.start(callback, argument)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _finish(self, reason: str, *, reset: bool = False) -> None:
        if self._a.closed:
            return
        self._stop_timer()
        self._a.close(reset=reset)
        self._b.close(reset=reset)
        self._on_end(reason)


class _Side:
    """One end within a relay: what is still to be written to it, and whether it can still be read and written."""

    __slots__ = (
        "_watcher",
        "backlog",
        "closed",
        "count",
        "discarding",
        "end",
        "other",
        "reading",
        "relay",
        "writable",
    )

    other: "_Side"
    relay: Relay

    def __init__(self, end: End, relay: Relay) -> None:
        self.end = end
        self.relay = relay
        self.backlog: bytes | memoryview = b""
        self.closed = False
        self.count = 0
        self.discarding = False
        self.reading = True
        self.writable = True
        self._watcher = gevent.get_hub().loop.io(end.fileno(), _READ)

    def watch(self) -> None:
        """Wait for just the events that this side can use now."""
        events = _READ if self.reading and not self.other.backlog else 0
        if self.backlog:
            events |= _WRITE
        watcher = self._watcher
        if watcher.active:
            if watcher.events == events:
                return
            watcher.stop()
        if events:
            watcher.events = events
            watcher.start(self._ready)

    def _ready(self) -> None:
        if self.backlog:
            self.flush()
        if self.reading and not self.other.backlog:
            self._read()

    def _read(self) -> None:
        other = self.other
        try:
            size = self.end.try_read(_buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.relay.read_failed(self, error)
            return
        if size == 0:
            self.reading = False
            self.watch()
            self.relay.read_ended(self)
            return
        self.count += size
        if self.discarding:
            return
        try:
            sent = other.end.try_write(_view[:size])
        except BlockingIOError:
            sent = 0
        except OSError:
            self.relay.write_failed(other)
            return
        if sent < size:
            other.backlog = bytes(_view[sent:size])
            self.watch()
            other.watch()

    def flush(self) -> None:
        """Write the backlog, or as much of it as goes."""
        try:
            sent = self.end.try_write(self.backlog)
        except BlockingIOError:
            return
        except OSError:
            self.relay.write_failed(self)
            return
        if sent < len(self.backlog):
            self.backlog = memoryview(self.backlog)[sent:]
            return
        self.backlog = b""
        self.watch()
        if self.other.reading:
            self.other.watch()
        else:
            self.relay.all_written(self)

    def close(self, *, reset: bool) -> None:
        """Stop watching and close the end."""
        self.closed = True
        self.reading = False
        self.backlog = b""
        self._watcher.close()
        del self.other, self.relay
        if reset:
            self.end.reset()
        else:
            self.end.close()
