"""A unix socket beside the server's files, for commands of the same user: one line
asked, one line answered.

The file system decides who may ask: the socket has mode 0600, in a directory of mode
0700.
"""

import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from gevent.pool import Pool
from gevent.server import StreamServer

from localtunnel.errors import ListenError, Unreachable

log = logging.getLogger("localtunnel.net")

MODE = stat.S_IRUSR | stat.S_IWUSR

BACKLOG = 16
"""Commands that wait to be accepted. People type them, so there are few."""

MAX_ASKING = 16
"""Commands that are served at a time; others wait."""

MAX_LINE = 4096
"""Bytes of a question: a command and a name or an address."""

SERVE_TIMEOUT = 5.0
"""Seconds for a whole question to arrive, and for its answer to be read."""

ASK_TIMEOUT = 10.0
"""Seconds that a command waits for the server, which needs milliseconds."""

_CHUNK = 64 * 1024


class LineServer:
    """Listens on ``path`` and calls ``answer`` for each line, in a greenlet of its own,
    so it may block."""

    def __init__(self, path: Path, answer: Callable[[bytes], bytes]) -> None:
        self._path = path
        self._answer = answer
        self._server: StreamServer | None = None

    def start(self) -> None:
        """Listen. An old socket at ``path`` is replaced: the caller knows that no other
        server uses it.

        Raises ListenError.
        """
        sock = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with _short(self._path) as short:
                sock.bind(short)
                # Nobody can connect before ``listen``, so the socket is never open to
                # others.
                os.chmod(short, MODE)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise ListenError(f"Cannot listen on {self._path}: {error.strerror or error}.") from error
        self._server = StreamServer(sock, self._serve, spawn=Pool(MAX_ASKING))
        self._server.start()

    def stop(self) -> None:
        """Stop listening, drop the commands that are being answered, and remove
        ``path``. Idempotent."""
        if self._server is not None:
            self._server.stop(timeout=0)
            self._server = None
            self._path.unlink(missing_ok=True)

    def _serve(self, sock: Any, address: object) -> None:
        try:
            with gevent.Timeout(SERVE_TIMEOUT, TimeoutError()):
                line = _read_line(sock, MAX_LINE)
            answer = self._answer(line)
            with gevent.Timeout(SERVE_TIMEOUT, TimeoutError()):
                sock.sendall(answer + b"\n")
        except OSError as error:
            log.debug("question not answered", extra={"error": str(error)})


def ask(path: Path, question: bytes) -> bytes:
    """Return the answer of the server that listens on ``path``, a line; blocks the
    thread.

    Raises Unreachable when none does.
    """
    try:
        with _short(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ASK_TIMEOUT)
            sock.connect(short)
            sock.sendall(question + b"\n")
            return _read_line(sock)
    except OSError as error:
        raise Unreachable(f"No server answers on {path}: {error.strerror or error}.") from error


def _read_line(sock: Any, most: int | None = None) -> bytes:
    """Read up to the line's end. Raises OSError when the peer ends before, or sends
    more than ``most`` bytes."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = sock.recv(_CHUNK)
        if not data or (most is not None and len(line) + len(data) > most):
            raise ConnectionError("the line has no end")
        line += data
    return bytes(line[:-1])


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a short path to the same place: an address has room for 107 bytes
    (unix(7)), which a directory may exceed."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
