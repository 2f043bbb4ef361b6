"""Requests from any web page, for a tunnel that allows them (Fetch, "CORS protocol").

The answer is the wildcard, never the page's own origin: with that, and credentials
allowed, any page that a visitor has open could act in the visitor's name. So a page of
another origin gets answers to requests without cookies only.
"""

import re

from localtunnel.http.grammar import TOKEN_CHARACTERS
from localtunnel.http.message.request import RequestHead

ALLOW_FIELDS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "*"))
"""Added to every response, the server's own included: without them, a script could read
no error."""

ALLOW = "".join(f"{name}: {value}\r\n" for name, value in ALLOW_FIELDS).encode("ascii")
"""The same, as field lines."""

FIELDS = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
"""Dropped from the upstream's answer: a browser takes two answers for none."""

MAX_AGE = 600
"""Seconds for which a browser remembers a preflight's answer: the lowest cap of any
browser."""

_METHOD = b"access-control-request-method"
_HEADERS = b"access-control-request-headers"
_TOKENS = re.compile(rb"[%b, \t]*" % TOKEN_CHARACTERS)


def is_preflight(head: RequestHead) -> bool:
    """Say whether ``head`` asks for a browser whether a page may send a request."""
    return head.method == "OPTIONS" and {b"origin", _METHOD} <= {name for name, _, _ in head.fields}


def preflight_answer(head: RequestHead) -> bytes:
    """Return the response to a preflight, which allows everything that it asks for;
    close the connection after it.

    Methods and fields are named one by one, because a wildcard does not include
    Authorization.
    """
    asked = {name: value for name, value, _ in head.fields if name in (_METHOD, _HEADERS) and _TOKENS.fullmatch(value)}
    lines = (
        b"HTTP/1.1 204 No Content\r\n",
        ALLOW,
        b"Access-Control-Allow-Methods: " + asked.get(_METHOD, b"*") + b"\r\n",
        b"Access-Control-Allow-Headers: " + asked.get(_HEADERS, b"*") + b"\r\n",
        b"Access-Control-Max-Age: %d\r\n" % MAX_AGE,
        b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n",
        b"Connection: close\r\n\r\n",
    )
    return b"".join(lines)
