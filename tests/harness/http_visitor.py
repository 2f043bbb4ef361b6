"""Visitors that are no part of this project: Python's http.client reads what they are answered."""

import io
from http.client import HTTPResponse
from typing import Any

import gevent
import msgspec

from harness import Address, connect


class Request(msgspec.Struct):
    """One request: ``chunks`` is the size of the chunks in which the body is sent, 0 for a counted one."""

    method: str
    target: str
    fields: dict[str, str] = {}
    body: bytes = b""
    chunks: int = 0

    def bytes(self, host: str, mode: str) -> bytes:
        """Return what is sent in ``mode``."""
        version = "HTTP/1.0" if mode.startswith("HTTP/1.0") else "HTTP/1.1"
        lines = [f"{self.method} {self.target} {version}", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        if mode in ("close", "HTTP/1.0 keep-alive"):
            lines.append(f"Connection: {mode.removeprefix('HTTP/1.0 ')}")
        body = self.body
        if self.chunks:
            lines.append("Transfer-Encoding: chunked")
            pieces = [body[start : start + self.chunks] for start in range(0, len(body), self.chunks)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
        elif body or self.method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


class Answer(msgspec.Struct):
    """What was received for one request."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    chunked: bool
    stays_open: bool
    body: bytes


class Shared(io.BufferedReader):
    """What is received on one connection; it stays open from one response to the next."""

    def close(self) -> None:
        pass

    def makefile(self, _: str) -> "Shared":
        """Be the socket that http.client asks for."""
        return self


def read_answer(stream: Shared, method: str) -> Answer:
    response = HTTPResponse(stream, method=method)
    response.begin()
    chunked, stays_open = bool(response.chunked), not response.will_close
    body = response.read()
    fields = list(response.headers.items())
    return Answer(response.status, response.reason, fields, chunked, stays_open, body)


class Visitor:
    """Asks for one thing after the other, and keeps its connection for as long as it may. Close it after use."""

    def __init__(self, address: Address, host: str, source: str | None = None) -> None:
        self._source = source
        self._address = address
        self._host = host
        self._sock: Any = None
        self._stream: Any = None

    def ask(self, request: Request) -> Answer:
        """Return the answer, which has to come within 20 s."""
        if self._sock is None:
            self._sock = connect(self._address, self._source, cap=20.0)
            self._stream = Shared(self._sock.makefile("rb", buffering=0))
        sending = gevent.spawn(self._sock.sendall, request.bytes(self._host, "keep-alive"))
        answer = read_answer(self._stream, request.method)
        sending.get()
        if not answer.stays_open:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection. May be called twice."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
