"""The ways a connection ends: closed, reset, or lingering until the peer has read the
last word."""

import contextlib
import socket
import struct
import time
from typing import Any

import gevent

from localtunnel.net.sockets import READ, WRITE

IDLE = 5.0
"""Seconds for which a lingering connection may be silent. A browser reads an early
answer only after it has sent megabytes of its request; a peer that sends nothing has
had the time to read."""

TOTAL = 30.0
"""Seconds that a connection lingers at most, however much still comes. nginx has the
same limit (lingering_time)."""

MAX_LINGERING = 1024
"""Connections of one owner that linger at a time. One more ends the oldest, which has
had the most time to read: a flood gets no further descriptors."""

_RESET = struct.pack("ii", 1, 0)
_DISCARD = bytearray(64 * 1024)


def close(sock: socket.socket) -> None:
    """Close ``sock``; what was sent goes out first. Idempotent."""
    with contextlib.suppress(OSError):
        sock.close()


def reset(sock: socket.socket) -> None:
    """Close ``sock`` with an RST, so that the peer cannot take a truncated stream for a
    complete one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    close(sock)


def wake(sock: socket.socket) -> None:
    """End both directions of ``sock`` without closing it: a greenlet that waits for it,
    and owns it, wakes with EOF."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class Lingering:
    """The connections that linger for one owner, a server or a client, the oldest
    first.

    Closing at once with bytes unread makes the kernel send an RST, which can destroy
    the answer before the peer has read it (RFC 9112 9.6). So the bytes that the peer
    still sends are read and dropped, within the limits above.
    """

    def __init__(self, idle: float = IDLE, total: float = TOTAL) -> None:
        self._idle = idle
        self._total = total
        self._entries: dict[_Entry, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def linger(self, sock: socket.socket, rest: bytes = b"") -> None:
        """Take ownership of ``sock``: send ``rest`` and a FIN, and close it when the
        peer has, or its time is over."""
        entry = _Entry(self, sock, rest, self._idle, self._total)
        if entry.send():
            self._add(entry)
        else:
            close(sock)

    def hold(self, sock: socket.socket, seconds: float, *, read: bool = True) -> None:
        """Take ownership of ``sock``, and close it when the peer has, or after
        ``seconds``; no FIN goes out before.

        With ``read`` False nothing is read, and TCP's flow control stops a peer that
        floods. The peer has ``seconds`` to read the answer; the close then resets the
        connection, since bytes are unread.
        """
        if seconds <= 0:
            close(sock)
        else:
            self._add(_Entry(self, sock, b"", seconds, seconds, read=read))

    def end_oldest(self) -> bool:
        """Close the connection that lingers for longest; say whether there was one."""
        for entry in self._entries:
            entry.end()
            return True
        return False

    def end(self) -> None:
        """Close every lingering connection. Idempotent."""
        for entry in list(self._entries):
            entry.end()

    def discard(self, entry: "_Entry") -> None:
        """Forget ``entry``, which has ended."""
        del self._entries[entry]

    def _add(self, entry: "_Entry") -> None:
        if len(self._entries) >= MAX_LINGERING:
            self.end_oldest()
        self._entries[entry] = None
        entry.start()


class _Entry:
    """One connection that lingers; ``rest`` is to be sent before the FIN."""

    __slots__ = ("_ends_at", "_heard_at", "_idle", "_owner", "_reads", "_rest", "_sock", "_timer", "_watcher")

    def __init__(
        self, owner: Lingering, sock: socket.socket, rest: bytes, idle: float, total: float, *, read: bool = True
    ) -> None:
        self._owner = owner
        self._sock = sock
        self._rest = rest
        self._idle = idle
        self._heard_at = time.monotonic()
        self._ends_at = self._heard_at + total
        self._reads = read
        self._watcher: Any = None
        self._timer: Any = None

    def send(self) -> bool:
        """Send what is left, and then a FIN; return whether the connection still takes
        bytes."""
        try:
            if self._rest:
                self._rest = self._rest[self._sock.send(self._rest) :]
            if not self._rest:
                self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Begin to read and drop what comes."""
        self._watcher = gevent.get_hub().loop.io(self._sock.fileno(), READ)
        self._watch()
        self._arm(min(self._idle, self._ends_at - self._heard_at))

    def end(self) -> None:
        """Close the connection."""
        self._owner.discard(self)
        self._watcher.close()
        self._timer.close()
        close(self._sock)

    def _watch(self) -> None:
        self._watcher.stop()
        events = (READ if self._reads else 0) | (WRITE if self._rest else 0)
        if events:
            self._watcher.events = events
            self._watcher.start(self._ready)

    def _arm(self, seconds: float) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._look)

    def _look(self) -> None:
        """End the connection, or wait on if bytes have moved since the timer was
        set."""
        self._timer.close()
        left = min(self._heard_at + self._idle, self._ends_at) - time.monotonic()
        if left > 0:
            self._arm(left)
        else:
            self.end()

    def _ready(self) -> None:
        self._heard_at = time.monotonic()
        before = (self._reads, bool(self._rest))
        is_whole = not self._rest or self.send()
        if self._reads:
            self._reads = not self._has_ended()
        if not is_whole or not (self._reads or self._rest):
            self.end()
        elif before != (self._reads, bool(self._rest)):
            self._watch()

    def _has_ended(self) -> bool:
        try:
            return self._sock.recv_into(_DISCARD) == 0
        except BlockingIOError:
            return False
        except OSError:
            # The peer has reset the connection: there is nobody to send to.
            self._rest = b""
            return True
