"""Requests for pages of localtunnel itself, and their answers as the standard library
reads them.

Imported by itself.
"""

import io
from http.client import HTTPResponse

import pytest

from localtunnel.http.message.request import RequestHead

TEXT, JSON, HTML = "*/*", "application/json", "text/html"

every_form = pytest.mark.parametrize("accept", [TEXT, JSON, HTML], ids=["text", "json", "html"])


def request(
    accept: str = TEXT,
    method: str = "GET",
    host: str = "demo.localhost",
    port: int | None = 8000,
    target: str = "/",
) -> RequestHead:
    fields = [(b"accept", accept.encode(), b"")]
    return RequestHead(method, target.encode(), (1, 1), host, port, 0, fields=fields)


class _Wire:
    """What HTTPResponse needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, method: str = "GET") -> tuple[HTTPResponse, str]:
    """Read a response with the standard library; check that it ends where it says and closes."""
    response = HTTPResponse(_Wire(data), method=method)
    response.begin()
    body = response.read()
    head, _, rest = data.partition(b"\r\n\r\n")
    assert rest == body
    assert response.getheader("Connection") == "close"
    assert response.getheader("Transfer-Encoding") is None
    assert head.count(b"Content-Length") == 1
    return response, body.decode("utf-8")
