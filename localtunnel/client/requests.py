"""The requests that follow on a joined connection, for the client's user to see; nothing depends on them.

The server uses a joined connection for one request after the other and never has two under way (PROTOCOL.md), so what
comes first after something was answered begins a request, or goes on with one that was answered early.
"""

import re
from collections.abc import Callable
from typing import Any

from localtunnel.net.ends import End
from localtunnel.net.relay import Relay

MAX_LINE = 8 * 1024
"""Bytes at the beginning of a read in which a request line has to end: the server sends a head in one piece, and what
is longer than most URLs is not worth showing."""

_REQUEST_LINE = re.compile(rb"[!-~]{1,32} [!-~]+ HTTP/1\.[01](?=\r\n)")


class RequestsSeen:
    """The server's end of a relay, which calls ``followed(request_line)`` for each request but the first.

    It owns ``end`` and does everything through it. ``relay`` is set before the first read. A request is missed where
    its first bytes go past inside the kernel (``net.splice``), behind a large body on a connection without TLS.
    """

    __slots__ = ("_answered", "_end", "_followed", "_read", "label", "relay", "try_write", "watcher")

    relay: Relay

    def __init__(self, end: End, followed: Callable[[str], None]) -> None:
        self.label = end.label
        self.watcher: Any = end.watcher
        self.try_write = end.try_write
        self._end = end
        self._read = end.try_read
        self._followed = followed
        self._answered = 0

    @property
    def has_pending(self) -> bool:
        """What the end says."""
        return self._end.has_pending

    @property
    def descriptor(self) -> int:
        """The end's own: large flows are bodies, which nobody has to see."""
        return self._end.descriptor

    def try_read(self, buffer: bytearray | memoryview) -> int:
        """Read from the end, and look at what came if something was answered since the last time."""
        size = self._read(buffer)
        answered = self.relay.from_b
        if answered != self._answered:
            self._answered = answered
            line = _REQUEST_LINE.match(buffer, 0, min(size, MAX_LINE))
            if line:
                self._followed(line[0].decode("ascii"))
        return size

    def shutdown_write(self) -> None:
        """Tell the server that nothing more comes."""
        self._end.shutdown_write()

    def close(self) -> None:
        """Close the end."""
        self._forget_owner()
        self._end.close()

    def reset(self) -> None:
        """Reset the end."""
        self._forget_owner()
        self._end.reset()

    def _forget_owner(self) -> None:
        """Drop the relay and the callback: both hold this end, and a cycle would leave them to the collector."""
        del self.relay, self._followed
