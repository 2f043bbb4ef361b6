"""Visitors for benchmarks: many at once, each timed, or opened and held."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from programs import BenchError

REQUEST_TIMEOUT = 20.0
"""Seconds that one visitor waits for its answer before it counts as failed: longer than
the server's own patience."""

SETTLE_SECONDS = 1.0

_READ_SIZE = 64 * 1024


@dataclass
class Visit:
    """One visitor: a new connection, a GET, the whole answer, and the end of the
    connection."""

    started: float = 0.0
    seconds: float | None = None
    """From the connect to the last byte of the answer; None when there was no good
    one."""
    failure: str | None = None


def request(host: str, path: str = "/") -> bytes:
    """Return a GET on a connection that may be kept."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def visit(address: tuple[str, int], host: str, count: int) -> list[Visit]:
    """Let ``count`` visitors come at the same moment; return them in the order in which
    they came."""
    with selectors.DefaultSelector() as selector:
        crowd = [_Visitor(address, host, selector) for _ in range(count)]
        waiting = set(crowd)
        give_up = time.monotonic() + REQUEST_TIMEOUT
        while waiting and (left := give_up - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.go_on()
                if key.data.ended:
                    waiting.discard(key.data)
        for visitor in waiting:
            visitor.fail(f"no answer within {REQUEST_TIMEOUT:g} s")
    return [visitor.visit for visitor in crowd]


class _Visitor:
    """Connects when it is made, and then goes on whenever its socket is ready."""

    def __init__(self, address: tuple[str, int], host: str, selector: selectors.BaseSelector) -> None:
        self.visit = Visit()
        self.ended = False
        self._request = request(host)
        self._received = b""
        self._selector = selector
        self._sock = socket.socket()
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.visit.started = time.monotonic()
        # A failure of the connection shows when the request is sent.
        self._sock.connect_ex(address)
        selector.register(self._sock, selectors.EVENT_WRITE, self)

    def go_on(self) -> None:
        """Send the rest of the request, or read bytes of the answer."""
        try:
            if self._request:
                self._request = self._request[self._sock.send(self._request) :]
                if not self._request:
                    self._selector.modify(self._sock, selectors.EVENT_READ, self)
                return
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error.strerror or str(error))
            return
        self._received += data
        if is_whole(self._received):
            self.visit.seconds = time.monotonic() - self.visit.started
            self._end()
        elif not data or not b"HTTP/1.1 200 ".startswith(self._received[:13]):
            self.fail(self._received.partition(b"\r\n")[0].decode("latin-1") or "closed without an answer")

    def fail(self, reason: str) -> None:
        """End without an answer."""
        self.visit.failure = reason
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._selector.unregister(self._sock)
        self._sock.close()


def is_whole(answer: bytes) -> bool:
    """Say whether ``answer`` is a 200 with as many bytes of body as its Content-Length
    says."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"HTTP/1.1 200 "):
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return False


@contextmanager
def crowd() -> Iterator[list[socket.socket]]:
    """Yield a list for the connections that ``join`` opens; they are closed when the
    block is left."""
    connections: list[socket.socket] = []
    try:
        yield connections
    finally:
        for sock in connections:
            sock.close()


def join(connections: list[socket.socket], address: tuple[str, int], host: str, count: int) -> None:
    """Open ``count`` more connections, each with one request answered, and keep them.
    Raises BenchError."""
    for _ in range(count):
        sock = socket.create_connection(address, REQUEST_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(sock)
        timed(sock, host)


def timed(sock: socket.socket, host: str) -> float:
    """Return the seconds that one request on an open connection takes. Raises
    BenchError when it has no good answer."""
    started = time.monotonic()
    answer = b""
    try:
        sock.sendall(request(host))
        while not is_whole(answer):
            data = sock.recv(_READ_SIZE)
            if not data:
                raise BenchError(f"A connection was closed with {answer[:80]!r} instead of an answer.")
            answer += data
    except OSError as error:
        raise BenchError(f"A request was not answered: {error}.") from None
    return time.monotonic() - started


def settle() -> None:
    """Wait until a pool has been refilled after the last visitor; on loopback that
    takes milliseconds."""
    time.sleep(SETTLE_SECONDS)
