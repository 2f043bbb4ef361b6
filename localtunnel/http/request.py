"""The head of a request: collected however finely it arrives, parsed once, and never repaired.

A server in between that reads a request otherwise than the upstream does can be made to route it past its guards
(request smuggling). So whatever two parsers might read differently is refused here: RFC 9112 allows a server to be
lenient in several of these places, and this one is not. The bytes themselves go to the upstream as they came.

The request line is taken apart here, so that a method unknown to ``httptools`` may pass. ``httptools`` checks the field
lines; what it accepts and this program does not is checked before and after it. When something is wrong, a second and
slower reading (``refusal``) finds the words for it.
"""

import re
from contextlib import suppress

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

from localtunnel import errors
from localtunnel.http import refusal
from localtunnel.http.authority import parse_authority, shown
from localtunnel.protocol import limits

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\"$-~\x80-\xff]+) HTTP/1\.([01])\r\n")
"""RFC 9112, section 3. A target is any visible bytes but ``#``: browsers do not encode all that RFC 3986 would have."""

_ABSOLUTE_FORM = re.compile(rb"(https?)://([^/?]*)(?:[/?].*)?", re.IGNORECASE)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_BARE_LF_END = re.compile(rb"\n\r?\n")
_STAND_IN = b"GET / HTTP/1.1\r\n"
_WATCHED = frozenset({b"host", b"accept", b"content-length", b"transfer-encoding"})
_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length: what a signed 64-bit number always holds, so that no upstream's counter overflows."""


class RequestHead(Struct, frozen=True):
    """What the frontend knows of one request."""

    method: str
    """As sent; methods are case-sensitive (RFC 9110, section 9.1)."""
    target: str
    """As sent, one character per byte (latin-1)."""
    version: tuple[int, int]
    """(1, 0) or (1, 1)."""
    host: str
    """Lower case, without port, brackets and final dot. Never empty."""
    port: int | None
    accept: str
    """The Accept fields, joined with commas; empty when there is none."""
    size: int
    """Bytes from the first one received up to and including the blank line: the body begins there."""

    @property
    def path(self) -> str:
        """The target without its query, and without scheme and host where it is in absolute form."""
        path = self.target.partition("?")[0]
        if path.startswith("/") or path == "*":
            return path
        return "/" + path.partition("://")[2].partition("/")[2]


class HeadReader:
    """Collects the bytes of one connection until the request's head is whole.

    The caller feeds what it receives until a head is returned or an error is raised, and then no more; it owns the
    deadline and the socket. The work is linear in the bytes, however finely they arrive.
    """

    def __init__(self, max_bytes: int = limits.MAX_HEAD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._received = bytearray()

    @property
    def data(self) -> bytes:
        """Every byte received so far, the head and what followed it, to be replayed to the upstream."""
        return bytes(self._received)

    def feed(self, data: bytes) -> RequestHead | None:
        """Take ``data``; return the head once it is whole, None while more is needed.

        Raises ``errors.BadRequest`` for what is not HTTP/1.x or is too large, ``errors.NoHost`` when no host is named.
        """
        received = self._received
        known = len(received)
        received += data
        if known < refusal.LONGEST_PREFIX:
            refusal.refuse_other_protocols(received)
        # The end may straddle the border between two feeds; what lies further back has been searched before.
        end = received.find(b"\r\n\r\n", max(known - 3, 0))
        size = end + 4 if end >= 0 else len(received) + 1
        if size > self._max_bytes:
            raise errors.BadRequest(
                f"The request's head is larger than {self._max_bytes} bytes; send fewer or shorter fields."
            )
        if end >= 0:
            return parse_head(bytes(received[:size]))
        if _BARE_LF_END.search(received, max(known - 2, 0)):
            raise errors.BadRequest(refusal.BARE_LINE_END)
        return None


class _Fields:
    """Receives field lines from ``httptools`` and keeps the few that matter here."""

    __slots__ = ("accept", "content_length", "host", "transfer_encoding")

    def __init__(self) -> None:
        self.host: list[bytes] = []
        self.accept: list[bytes] = []
        self.content_length: list[bytes] = []
        self.transfer_encoding: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name not in _WATCHED:
            return
        value = value.strip(b" \t")
        if name == b"host":
            self.host.append(value)
        elif name == b"accept":
            self.accept.append(value)
        elif name == b"content-length":
            self.content_length.append(value)
        else:
            self.transfer_encoding.append(value)


def parse_head(head: bytes) -> RequestHead:
    """Parse a whole head, ``head`` being its bytes up to and including the blank line.

    One empty line before it is skipped (RFC 9112, section 2.2). Raises ``errors.BadRequest`` and ``errors.NoHost``.
    """
    start = 2 if head.startswith(b"\r\n") else 0
    line = _REQUEST_LINE.match(head, start)
    if line is None:
        raise errors.BadRequest(refusal.request_line_fault(head[start:]))
    lines = head.count(b"\r\n", start)
    if not lines == head.count(b"\n", start) == head.count(b"\r", start):
        raise errors.BadRequest(refusal.BARE_LINE_END)
    if lines - 2 > limits.MAX_HEAD_FIELDS:
        raise errors.BadRequest(
            f"The request has {lines - 2} fields, but at most {limits.MAX_HEAD_FIELDS} are accepted; send fewer."
        )
    method, target, minor = line.groups()
    version = (1, 1) if minor == b"1" else (1, 0)
    fields = _read_fields(head[line.end() :], version)
    _check_framing(fields, version)
    host, port = _identify(method, target, fields.host)
    accept = b", ".join(fields.accept).decode("latin-1")
    return RequestHead(method.decode("ascii"), target.decode("latin-1"), version, host, port, accept, len(head))


def _read_fields(section: bytes, version: tuple[int, int]) -> _Fields:
    """Read the field lines and the blank line after them, as they follow on the request line."""
    fields = _Fields()
    try:
        # HttpParserUpgrade tells of an Upgrade field. It is no error: the head ends there either way.
        with suppress(HttpParserUpgrade):
            HttpRequestParser(fields).feed_data(_STAND_IN + section)
    except HttpParserError as error:
        raw = _Fields()
        for name, value in refusal.split_fields(section):
            raw.on_header(name, value)
        _check_framing(raw, version)
        raise errors.BadRequest(f"The request's fields are not valid HTTP: {error}.") from None
    return fields


def _check_framing(fields: _Fields, version: tuple[int, int]) -> None:
    """Refuse a body whose end two readers might see in two places (RFC 9112, sections 6.1 to 6.3)."""
    codings, lengths = fields.transfer_encoding, fields.content_length
    if codings:
        if lengths:
            raise errors.BadRequest(
                "The request has both Transfer-Encoding and Content-Length; send only one of them (RFC 9112, 6.3)."
            )
        if version == (1, 0):
            raise errors.BadRequest("The request uses Transfer-Encoding, which HTTP/1.0 does not have; use HTTP/1.1.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise errors.BadRequest(
                f"The request's Transfer-Encoding is {shown(b', '.join(codings))}; only a single "
                '"chunked" is accepted.'
            )
    elif len(lengths) > 1:
        raise errors.BadRequest(f"The request has {len(lengths)} Content-Length fields; exactly one is allowed.")
    elif lengths and not (lengths[0].isdigit() and len(lengths[0]) <= _MAX_LENGTH_DIGITS):
        raise errors.BadRequest(
            f"The request's Content-Length is {shown(lengths[0])}; it has to be a plain decimal number of bytes."
        )


def _identify(method: bytes, target: bytes, hosts: list[bytes]) -> tuple[str, int | None]:
    """Return the one host and port that the request is for (RFC 9112, sections 3.2 and 3.3)."""
    if not hosts:
        raise errors.NoHost("The request has no Host field, so that no tunnel can be found; send one.")
    if len(hosts) > 1:
        raise errors.BadRequest(f"The request has {len(hosts)} Host fields; exactly one is allowed (RFC 9112, 3.2).")
    host, port = parse_authority(hosts[0], "The Host field") if hosts[0] else ("", None)
    if not host:
        raise errors.NoHost("The request's Host field is empty, so that no tunnel can be found; name the host in it.")
    if method == b"CONNECT":
        raise errors.BadRequest("The method CONNECT asks for a proxy, and this is not one; request the page itself.")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return host, port
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        raise errors.BadRequest(
            f"The request's target is {shown(target)}; it has to begin with a slash, or with http:// and a host."
        )
    scheme, authority = absolute.groups()
    default_port = _DEFAULT_PORTS[scheme.lower()]
    named, named_port = parse_authority(authority, "The authority in the request's target")
    # RFC 9112, 3.2.2 lets the target win. Two identities in one request are refused: the upstream may pick the other.
    if (named, named_port or default_port) != (host, port or default_port):
        raise errors.BadRequest(
            f"The request's target names the host {shown(authority)} and its Host field "
            f"{shown(hosts[0])}; both have to be the same."
        )
    return host, port
