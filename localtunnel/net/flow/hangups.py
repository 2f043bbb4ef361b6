"""Hearing that a peer has gone, on a connection from which nobody reads at the time.

A watcher that waits for nothing to read hears nothing, not even a reset; and one that
waits for something to read is woken without end where the peer has closed its own
direction. epoll tells of both kinds of failure on a descriptor of which no event was
asked for (epoll_ctl(2)), so that one epoll instance is put beside the loop's own, and
its descriptor watched in the loop.
"""

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.net.sockets import READ

_IS_THERE = hasattr(select, "epoll")
"""Elsewhere than on Linux such a peer is noticed when something is sent to it."""


class HangUps:
    """The connections of one server that are listened to.

    Its own descriptor is opened before any of theirs: a visitor whose end went unnoticed
    while descriptors are short would keep one, and the shortage would last.
    """

    def __init__(self) -> None:
        self._gone: dict[int, Callable[[], None]] = {}
        self._poll: Any = None
        self._watcher: Any = None

    def __len__(self) -> int:
        return len(self._gone)

    def open(self) -> None:
        """Begin, before the first ``listen``; ``close`` ends it. Raises OSError where no descriptor is left."""
        if _IS_THERE:
            self._poll = select.epoll()
            self._watcher = gevent.get_hub().loop.io(self._poll.fileno(), READ)
            self._watcher.start(self._ready)

    def close(self) -> None:
        """Listen to none any more. Idempotent."""
        self._gone.clear()
        if self._poll is not None:
            self._watcher.close()
            self._poll.close()
            self._poll = self._watcher = None

    def listen(self, sock: socket.socket, gone: Callable[[], None]) -> None:
        """Call ``gone()`` once, from the hub, when ``sock`` is reset or has failed; its owner calls ``forget`` first,
        when it closes ``sock`` or listens no more.
        """
        if self._poll is None:
            return
        try:
            self._poll.register(sock, 0)
        except OSError:
            # The kernel is out of memory, or at its limit of such registrations (epoll(7)). No more is lost than on
            # other systems, and the caller has others to look after.
            return
        self._gone[sock.fileno()] = gone

    def forget(self, sock: socket.socket) -> None:
        """Listen to ``sock``, which is not closed yet, no more. Idempotent."""
        if self._gone.pop(sock.fileno(), None) is not None:
            self._unregister(sock.fileno())

    def _ready(self) -> None:
        # One at a time: what is called may close others, whose numbers may be given to new ones. The rest comes again.
        for descriptor, _ in self._poll.poll(0, 1):
            gone = self._gone.pop(descriptor)
            self._unregister(descriptor)
            gone()

    def _unregister(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._poll.unregister(descriptor)
