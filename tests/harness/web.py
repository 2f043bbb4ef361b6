"""HTTP by hand, and local web servers for clients to expose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from gevent import socket
from gevent.server import StreamServer

from harness.sockets import LOOPBACK, Address, connect, listening, read_exactly, read_to_end
from harness.waiting import CAP

Handler = Callable[[socket.socket], None]


def request(host: str, path: str = "/", method: str = "GET", fields: str = "", body: bytes = b"") -> bytes:
    """Return a request's bytes; ``fields`` are whole lines with their CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{fields}\r\n".encode() + body


class Response(msgspec.Struct):
    """A response that was read to the end of its connection."""

    status: int
    fields: dict[str, str]
    body: bytes


def parse_response(data: bytes) -> Response:
    """Take a whole response apart; field names in lower case."""
    head, blank, body = data.partition(b"\r\n\r\n")
    assert blank, f"no whole response head: {data[:200]!r}"
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return Response(int(status.split()[1]), {name.lower(): value for name, value in fields.items()}, body)


def fetch(address: Address, data: bytes, cap: float = CAP) -> Response:
    """Send ``data``, which is one request, to ``address`` and return the response, to the end that it has."""
    with connect(address, cap=cap) as sock:
        sock.sendall(data)
        begun = read_head(sock)
        response = parse_response(begun)
        length = response.fields.get("content-length")
        if length is None:
            response.body += read_to_end(sock)
        elif not data.startswith(b"HEAD "):
            response.body += read_exactly(sock, int(length) - len(response.body))
        return response


def forwarded(head: bytes, address: str = LOOPBACK) -> bytes:
    """Return what the upstream gets of a plain request of the visitor at ``address``, as PROTOCOL.md has it."""
    head = head.replace(b"Connection: close\r\n", b"", 1)
    named = next(line[6:] for line in head.split(b"\r\n") if line.startswith(b"Host: "))
    host = named.decode().lower().removesuffix(".")
    known = (
        f"X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\n"
        f'Forwarded: for={address};proto=http;host="{host}"\r\n'
    )
    return head.replace(b"\r\n\r\n", b"\r\n" + known.encode() + b"\r\n", 1)


@contextmanager
def running_upstream(handler: Handler, host: str = LOOPBACK, port: int = 0) -> Iterator[int]:
    """Serve each connection with ``handler(sock)`` in a greenlet; the socket is closed after it. Yields the port."""

    def serve(sock: socket.socket, _: object) -> None:
        sock.settimeout(CAP)
        try:
            handler(sock)
        except OSError:
            return

    server = StreamServer(listening(host, port), serve)
    server.start()
    try:
        yield server.server_port
    finally:
        server.stop(timeout=0)


def read_head(sock: socket.socket) -> bytes:
    """Return a request's head and whatever came with it; empty when the visitor sent nothing."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return data
        data += piece
    return data


def answer_hello(sock: socket.socket) -> None:
    """Answer one request with ``hello``, and close."""
    if read_head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


def assert_refused(response: Response, status: int, code: str) -> None:
    """Hold an answer to being the server's own page about an error, behind which it closes."""
    assert response.status == status
    assert response.fields["x-localtunnel-error"] == code
    assert response.fields["connection"] == "close"
    assert int(response.fields["content-length"]) == len(response.body)
    assert code.encode() in response.body
