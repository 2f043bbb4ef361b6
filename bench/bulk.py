"""Large downloads and uploads for a while, and the sink that takes uploads.

Both ends are as light as they can be while every byte is still copied as real programs
copy it: the sender sends from the kernel's page cache (sendfile), the reader reads into
one buffer. Run as a program, this is the sink: an HTTP server that reads the body of
any request, drops it, and never answers.
"""

import argparse
import os
import selectors
import socket
import struct
import sys
import time
from pathlib import Path

from programs import LOOPBACK, BenchError
from visitors import request

WARM_UP = 0.3
"""Seconds before the count begins, while buffers on the way fill."""

UPLOAD_LENGTH = 1 << 50
"""The announced length of an upload: more than it can send in its time."""

CONNECT_TIMEOUT = 10.0
"""Seconds in which a stream must be connected and carry some bytes; otherwise the
system does not work."""

_BUFFER = bytearray(256 * 1024)
_BLANK_LINE = b"\r\n\r\n"
_LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, which drops bytes in flight before the next
measurement."""


class Download:
    """One stream: GETs the file again and again on one connection, and counts the
    bytes."""

    events = selectors.EVENT_READ

    def __init__(self, sock: socket.socket, host: str, path: str) -> None:
        self.moved = 0
        self.sock = sock
        self._request = request(host, path)
        self._head = b""
        self._left = 0
        sock.sendall(self._request)

    def go_on(self) -> None:
        """Read the bytes that have come. Raises BenchError when they are not the
        file's."""
        size = self.sock.recv_into(_BUFFER)
        if not size:
            raise BenchError("A download was closed before its end.")
        self.moved += size
        if not self._left:
            size = self._read_head(size)
        self._left -= size
        if not self._left and not self._head:
            self.sock.sendall(self._request)

    def _read_head(self, size: int) -> int:
        """Take the first ``size`` bytes of the buffer for (a part of) a head; return
        how many are body."""
        self._head += _BUFFER[:size]
        head, blank, body = self._head.partition(_BLANK_LINE)
        if not blank:
            return 0
        if not head.startswith(b"HTTP/1.1 200 "):
            raise BenchError(f"A download was answered {head[:80]!r}.")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        self._left = int(lengths[0])
        self._head = b""
        return len(body)


class Upload:
    """One stream: a request whose body ends with the time."""

    events = selectors.EVENT_WRITE

    def __init__(self, sock: socket.socket, host: str, source: int, size: int) -> None:
        self.moved = 0
        self.sock = sock
        self._source = source
        self._size = size
        head = f"POST /sink HTTP/1.1\r\nHost: {host}\r\nContent-Length: {UPLOAD_LENGTH}\r\n\r\n"
        sock.sendall(head.encode())

    def go_on(self) -> None:
        """Send as much as the socket takes. Raises OSError when the peer has gone."""
        offset = self.moved % self._size
        self.moved += os.sendfile(self.sock.fileno(), self._source, offset, self._size - offset)


def download(address: tuple[str, int], host: str, path: str, streams: int, seconds: float) -> float:
    """Return the MB/s of ``streams`` downloads at once. Raises BenchError."""
    return _run([Download(sock, host, path) for sock in _connect(address, streams)], seconds)


def upload(address: tuple[str, int], host: str, source: Path, streams: int, seconds: float) -> float:
    """Return the MB/s of ``streams`` uploads of ``source`` at once. Raises
    BenchError."""
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _run([Upload(sock, host, file.fileno(), size) for sock in _connect(address, streams)], seconds)


def _connect(address: tuple[str, int], streams: int) -> list[socket.socket]:
    return [socket.create_connection(address, CONNECT_TIMEOUT) for _ in range(streams)]


def _run(flows: list[Download] | list[Upload], seconds: float) -> float:
    with selectors.DefaultSelector() as selector:
        for flow in flows:
            flow.sock.setblocking(False)
            selector.register(flow.sock, flow.events, flow)
        try:
            _pump(selector, WARM_UP)
            before, started = sum(flow.moved for flow in flows), time.monotonic()
            _pump(selector, seconds)
            moved, took = sum(flow.moved for flow in flows) - before, time.monotonic() - started
        except OSError as error:
            raise BenchError(f"A stream failed: {error}.") from None
        finally:
            for flow in flows:
                flow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                flow.sock.close()
    if not moved:
        raise BenchError(f"No byte was moved in {seconds:g} s.")
    return moved / took / 1e6


def _pump(selector: selectors.BaseSelector, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while (left := give_up - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            try:
                key.data.go_on()
            except BlockingIOError:
                continue


def serve_sink(port: int) -> None:
    """Read and drop whatever comes to ``port``, until stdin ends."""
    with socket.create_server((LOOPBACK, port), backlog=1024) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listener:
                    sock, _ = listener.accept()
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ, sock)
                    continue
                _drop(selector, key.data)


def _drop(selector: selectors.BaseSelector, sock: socket.socket) -> None:
    try:
        if sock.recv_into(_BUFFER):
            return
    except BlockingIOError:
        return
    except OSError:
        # The stream's time is over, and it was reset.
        pass
    selector.unregister(sock)
    sock.close()


def main() -> None:
    """Run the sink as a program of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="where uploads come in")
    serve_sink(parser.parse_args().port)


if __name__ == "__main__":
    main()
