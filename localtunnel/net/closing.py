"""The ways a connection ends: closed, reset, or lingering until the peer has read the last word."""

import contextlib
import socket
import struct

import gevent

LINGER = 2.0
"""Seconds a lingering connection may take to read the last word, as nginx and Apache allow by the same device."""

MAX_LINGERING = 1024
"""Connections that linger at a time: past that they are closed at once, so that a flood buys no descriptors."""

_RESET = struct.pack("ii", 1, 0)
_DISCARD = bytearray(64 * 1024)
_READ = 1

_lingering: set["_Linger"] = set()


def close(sock: socket.socket) -> None:
    """Close ``sock``; what was sent goes out first. May be called twice."""
    with contextlib.suppress(OSError):
        sock.close()


def reset(sock: socket.socket) -> None:
    """Close ``sock`` with an RST, so that the peer cannot take a truncated stream for a complete one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    close(sock)


def wake(sock: socket.socket) -> None:
    """End both directions of ``sock`` without closing it: a greenlet that waits for it, and owns it, wakes with EOF."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def send_last(sock: socket.socket, data: bytes) -> None:
    """Take ``sock`` over, send the last word, and close once the peer has had the time to read it."""
    try:
        sent = sock.send(data)
    except OSError:
        sent = 0
    if sent < len(data):
        close(sock)
    else:
        linger(sock)


def linger(sock: socket.socket, seconds: float = LINGER, *, fin: bool = True) -> None:
    """Take ``sock`` over and close it when the peer has closed, or after ``seconds``; what it sends is dropped.

    Closing at once with bytes unread makes the kernel send an RST, which can destroy the answer before the peer has
    read it (RFC 9112 9.6). ``fin`` False holds our own FIN back as well.
    """
    if len(_lingering) >= MAX_LINGERING or seconds <= 0:
        close(sock)
        return
    if fin:
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            close(sock)
            return
    _lingering.add(_Linger(sock, seconds))


def lingering() -> int:
    """Return how many connections linger now."""
    return len(_lingering)


def end_lingering() -> None:
    """Close every lingering connection: the program stops."""
    for entry in list(_lingering):
        entry.end()


class _Linger:
    __slots__ = ("_sock", "_timer", "_watcher")

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        loop = gevent.get_hub().loop
        self._sock = sock
        self._watcher = loop.io(sock.fileno(), _READ)
        self._timer = loop.timer(seconds)
        self._watcher.start(self._discard)
        self._timer.start(self.end)

    def _discard(self) -> None:
        try:
            ended = self._sock.recv_into(_DISCARD) == 0
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self.end()

    def end(self) -> None:
        _lingering.discard(self)
        self._watcher.close()
        self._timer.close()
        close(self._sock)
