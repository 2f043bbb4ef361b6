"""A complete HTTP/1.1 response as bytes (RFC 9112, section 4). The connection is closed
after it.
"""

import re
from http import HTTPStatus

from localtunnel.http.grammar import TOKEN

_NAME = re.compile(TOKEN.decode())
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})


def render(status: int, fields: list[tuple[str, str]], body: bytes, *, head_only: bool = False) -> bytes:
    """Return status line, ``fields``, ``Content-Length``, ``Connection: close`` and the
    body.

    ``head_only`` leaves the body out and keeps its length, as for HEAD (RFC 9110,
    section 9.3.2). There is no Date, since this package has no clock. Raises ValueError
    for a status that is unknown or has no body, and for a field that could end its line
    and begin another (header injection).
    """
    if status < HTTPStatus.OK or status in _WITHOUT_BODY:
        raise ValueError(f"A response with the status {status} has no body.")
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    for name, value in [*fields, ("Content-Length", str(len(body))), ("Connection", "close")]:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"The field {name!r} with the value {value!r} cannot be sent.")
        lines.append(f"{name}: {value}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + body
