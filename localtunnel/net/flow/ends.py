"""The ends of a relay: anything that can be read and written without waiting, and be
watched.

The pump knows this interface and no sockets, so an end need not be a plain connection.
"""

import errno
import socket
from typing import Any, Protocol

import gevent

from localtunnel.net import closing
from localtunnel.net.sockets import READ, is_silent


class End(Protocol):
    """The interface of an end. ``label`` names it in the reason for the end of a
    relay."""

    label: str
    watcher: Any
    """gevent's io watcher. The owner of the end starts and stops it; it is closed with
    the end."""

    @property
    def sock(self) -> socket.socket:
        """The connection, for its options and its state in the kernel; bytes go through
        the end only."""

    @property
    def has_pending(self) -> bool:
        """Whether there are bytes to read of which no watcher tells: those of a
        decrypted record."""

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no byte, no part of a record, and not the
        end. Costs a system call."""

    @property
    def descriptor(self) -> int:
        """The socket for splice(2); -1 where its bytes are not those of the stream."""

    def try_read(self, buffer: bytearray | memoryview) -> int:
        """Read into ``buffer`` and return the number of bytes, 0 at the end. Raises
        BlockingIOError when there are none."""

    def try_write(self, data: bytes | memoryview) -> int:
        """Write what fits and return the number of bytes. Raises BlockingIOError when
        none do."""

    @property
    def written(self) -> int:
        """Bytes of the stream that were written; 0 where they are not counted."""

    @property
    def goes_on(self) -> bool:
        """Whether the connection can be used for something else behind the stream, once
        that has ended in both directions."""

    def unlimited(self) -> "End":
        """Return the end itself, in place of one that limits it."""

    def shutdown_write(self) -> None:
        """End this direction of the stream."""

    def close(self) -> None:
        """Close; written bytes go out first."""

    def reset(self) -> None:
        """Close so that the peer sees a failure."""


class SocketEnd:
    """A plain non-blocking socket as an end of a relay, which closes it.

    It keeps one watcher for life, through all its owners: a new one for the same
    descriptor would cost system calls.
    """

    __slots__ = ("label", "sock", "try_read", "try_write", "watcher")

    has_pending = False
    goes_on = False
    written = 0

    def __init__(self, sock: socket.socket, label: str, watcher: Any = None) -> None:
        self.sock = sock
        self.label = label
        self.watcher = watcher or gevent.get_hub().loop.io(sock.fileno(), READ)
        self.try_read = sock.recv_into
        self.try_write = sock.send

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to read, not even the end."""
        return is_silent(self.sock)

    @property
    def descriptor(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def unlimited(self) -> "SocketEnd":
        """Return the end itself."""
        return self

    def shutdown_write(self) -> None:
        """Send a FIN, unless the peer is gone already."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def close(self) -> None:
        """Close the socket."""
        self.watcher.close()
        closing.close(self.sock)

    def reset(self) -> None:
        """Close the socket with an RST."""
        self.watcher.close()
        closing.reset(self.sock)
