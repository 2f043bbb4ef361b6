"""What a relay joins: anything that can be read and written without waiting, and be watched.

The pump knows this interface and no sockets, so that an end may be something else than a plain connection.
"""

import errno
import socket
from typing import Any, Protocol

import gevent

from localtunnel.net import closing
from localtunnel.net.sockets import READ, is_silent


class End(Protocol):
    """What the pump knows of an end. ``label`` names it in the reason for which a relay ended."""

    label: str
    watcher: Any
    """gevent's io watcher for it, which whoever owns the end starts and stops; closed with the end."""

    @property
    def sock(self) -> socket.socket:
        """The connection, for options and for what the kernel knows of it; bytes go through the end only."""

    @property
    def has_pending(self) -> bool:
        """Whether bytes lie ready to be read that no watcher will tell of: those of a record already decrypted."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that was not read, not a part of it, and not the end: a system call tells."""

    @property
    def descriptor(self) -> int:
        """The socket whose bytes may be moved by splice(2), unseen; -1 where they are not those of the stream."""

    def try_read(self, buffer: bytearray | memoryview) -> int:
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
    """A plain non-blocking socket as an end of a relay, which closes it.

    It has one watcher for all its life, whoever owns it: another one for the same descriptor would cost system calls.
    """

    __slots__ = ("label", "sock", "try_read", "try_write", "watcher")

    has_pending = False

    def __init__(self, sock: socket.socket, label: str, watcher: Any = None) -> None:
        self.sock = sock
        self.label = label
        self.watcher = watcher or gevent.get_hub().loop.io(sock.fileno(), READ)
        self.try_read = sock.recv_into
        self.try_write = sock.send

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that was not read, and not the end."""
        return is_silent(self.sock)

    @property
    def descriptor(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def shutdown_write(self) -> None:
        """Send a FIN. A peer that is gone already needs none."""
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
