"""Noticing that a peer has gone, on a connection that is not read at the time.

Without a watcher for reading, not even a reset is noticed; with one, a peer that has
closed its own direction would wake it without end. epoll reports failures on a
descriptor even if no event was asked for (epoll_ctl(2)). So a second epoll instance
holds these connections, and the loop watches its descriptor.
"""

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.sockets import READ

_IS_THERE = hasattr(select, "epoll")
"""On other systems than Linux such a peer is noticed when bytes are sent to it."""


class HangUps:
    """The watched connections of one server.

    Its own descriptor is opened before any of theirs. If it were missing in a shortage
    of descriptors, visitors that have gone would keep theirs, and the shortage would
    last.
    """

    def __init__(self) -> None:
        self._gone: dict[int, Callable[[], None]] = {}
        self._poll: Any = None
        self._watcher: Any = None

    def __len__(self) -> int:
        return len(self._gone)

    def open(self) -> None:
        """Begin, before the first ``listen``; ``close`` ends it. Raises OSError when no
        descriptor is left."""
        if _IS_THERE:
            self._poll = select.epoll()
            self._watcher = gevent.get_hub().loop.io(self._poll.fileno(), READ)
            self._watcher.start(self._ready)

    def close(self) -> None:
        """Forget all connections. Idempotent."""
        self._gone.clear()
        if self._poll is not None:
            self._watcher.close()
            self._poll.close()
            self._poll = self._watcher = None

    def listen(self, sock: socket.socket, gone: Callable[[], None]) -> None:
        """Call ``gone()`` once, in the hub, when ``sock`` is reset or fails.

        The owner of ``sock`` calls ``forget`` before it closes it.
        """
        if self._poll is None:
            return
        try:
            self._poll.register(sock, 0)
        except OSError:
            # The kernel is out of memory, or at its limit of registrations (epoll(7)).
            # The connection is then as on other systems.
            return
        self._gone[sock.fileno()] = gone

    def forget(self, sock: socket.socket) -> None:
        """Forget ``sock``, which is still open. Idempotent."""
        if self._gone.pop(sock.fileno(), None) is not None:
            self._unregister(sock.fileno())

    def _ready(self) -> None:
        # One at a time: ``gone`` may close others, whose numbers may go to new
        # connections. The rest is reported again.
        for descriptor, _ in self._poll.poll(0, 1):
            gone = self._gone.pop(descriptor)
            self._unregister(descriptor)
            gone()

    def _unregister(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._poll.unregister(descriptor)
