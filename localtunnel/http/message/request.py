"""The head of a request: collected however finely it arrives, parsed once, never
repaired.

A server that reads a request differently from the upstream behind it can be made to
route it past its guards (request smuggling). So everything that two parsers might read
differently is refused here, also where RFC 9112 lets a server be lenient. Lines are
kept as they came, so that the upstream gets what was checked.
"""

import re
from functools import lru_cache

from msgspec import Struct, structs

from localtunnel import errors
from localtunnel.http.grammar import TOKEN
from localtunnel.http.message import refusal
from localtunnel.http.message.authority import parse_authority
from localtunnel.http.message.body import NO_BODY, Body, Chunked, Counted
from localtunnel.http.message.collecting import Collector, Repeated
from localtunnel.http.message.fields import Field, parse_fields, values_of
from localtunnel.http.message.framing import (
    NO_OPTIONS,
    WATCHED_FIELDS,
    keeps_alive,
    offers_websocket,
    read_length,
    read_options,
)
from localtunnel.http.message.refusal import REQUEST, shown
from localtunnel.http.message.sharing import LOGIN_FIELDS, has_intermediary, logs_in
from localtunnel.protocol import limits

_REQUEST_LINE = re.compile(rb"(%b) ([!\"$-~\x80-\xff]+) HTTP/1\.([01])\r\n" % TOKEN)
"""RFC 9112, section 3. A target is any visible bytes but ``#``: browsers do not encode
everything that RFC 3986 says."""

_ABSOLUTE_FORM = re.compile(rb"(https?)://([^/?]*)(?:[/?].*)?", re.IGNORECASE)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_WATCHED = WATCHED_FIELDS | LOGIN_FIELDS | {b"expect", b"host"}

_MAX_KEPT_HOST = 255
"""Bytes of a Host field whose parsed form is kept: a name has 253 at most (RFC
1035)."""

_KEPT_HOSTS = 1024
"""Host fields whose parsed form is kept: a few for each busy tunnel, and 0.5 MiB if a
hostile client fills it."""


_NEEDED = frozenset({b"accept", b"origin"})
_LONGEST = 256
_MOST_NEEDED = 4
_SIGN = (b"via", b"", b"")
"""What ``slimmed`` leaves: fields that an answer depends on, as many and as long as
programs send them."""


class RequestHead(Struct, frozen=True, gc=False):
    """What the edge knows of one request."""

    method: str
    """As sent; methods are case-sensitive (RFC 9110, section 9.1)."""
    raw_target: bytes
    """As sent: in origin-form (``/path?query``), absolute-form (``http://host/path``)
    or ``*``."""
    version: tuple[int, int]
    """(1, 0) or (1, 1)."""
    host: str
    """Lower case, without port, brackets and final dot. Never empty."""
    port: int | None
    size: int
    """Bytes from the first one received up to and including the blank line: the body
    begins there."""
    line: bytes = b""
    """The request line as it came, CRLF included."""
    fields: list[Field] = []
    """Every field, in the order of the head."""
    length: int | None = None
    """The Content-Length; None without one."""
    chunked: bool = False
    options: frozenset[bytes] = NO_OPTIONS
    """The options of the Connection fields, in lower case."""
    keep_alive: bool = True
    """Whether the visitor would send another request on this connection."""
    upgrade: bool = False
    """Whether this offers a WebSocket (RFC 6455, section 4.1). Any other Upgrade may be
    ignored."""
    expects: bool = False
    """Whether it has an Expect field (RFC 9110, section 10.1.1)."""
    logs_in: bool = False
    """Whether it brings a login of the whole connection."""

    @property
    def target(self) -> str:
        """The target as sent, one character per byte (latin-1)."""
        return self.raw_target.decode("latin-1")

    @property
    def path(self) -> str:
        """The target without its query, and without scheme and host where it is in
        absolute form.
        """
        path = self.target.partition("?")[0]
        if path.startswith("/") or path == "*":
            return path
        return "/" + path.partition("://")[2].partition("/")[2]

    @property
    def addressed(self) -> str:
        """Host and port as the visitor addressed them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def accept(self) -> str:
        """The Accept fields, joined with commas; empty when there is none."""
        return b", ".join(value for name, value, _ in self.fields if name == b"accept").decode("latin-1")

    @property
    def has_intermediary(self) -> bool:
        """Whether it shows any sign of a proxy."""
        return has_intermediary(self.version, self.raw_target, self.fields)

    @property
    def is_whole(self) -> bool:
        """Whether the head is as it came, and not ``slimmed``."""
        return bool(self.line)

    def slimmed(self) -> "RequestHead":
        """Return what is still needed of a large head once it has gone out."""
        needed = [(name, value, b"") for name, value, _ in self.fields if name in _NEEDED and len(value) <= _LONGEST]
        target = self.raw_target[:_LONGEST]
        fields = needed[:_MOST_NEEDED] + ([_SIGN] if self.has_intermediary else [])
        return structs.replace(self, raw_target=target, line=b"", fields=fields, options=NO_OPTIONS)

    def body(self) -> Body:
        """Return a fresh scanner for the body that follows the head; it raises
        ``errors.BadRequest``.
        """
        if self.chunked:
            return Chunked(REQUEST)
        return Counted(self.length) if self.length else NO_BODY


class HeadReader(Collector):
    """Collects the bytes of one connection until the request's head is whole, or
    refuses them.
    """

    def __init__(self, max_bytes: int = limits.MAX_HEAD_BYTES, max_fields: int = limits.MAX_HEAD_FIELDS) -> None:
        super().__init__(REQUEST, max_bytes)
        self._max_fields = max_fields

    def feed(self, data: bytes | memoryview) -> RequestHead | None:
        """Take ``data``; return the head once it is whole, None while more is needed.

        Raises ``errors.BadRequest`` for what is not HTTP/1.x or is too large,
        ``errors.NoHost`` when no host is named.
        """
        begun = len(self.received) < refusal.LONGEST_PREFIX
        head = self.collect(data)
        if head is not None:
            return parse_head(head, self._max_fields)
        if begun:
            refusal.refuse_other_protocols(self.received)
        return None


def parse_head(head: bytes, max_fields: int = limits.MAX_HEAD_FIELDS) -> RequestHead:
    """Parse a whole head, ``head`` being its bytes up to and including the blank line.

    One empty line before it is skipped (RFC 9112, section 2.2). Raises
    ``errors.BadRequest`` and ``errors.NoHost``.
    """
    start = 2 if head.startswith(b"\r\n") else 0
    line = _REQUEST_LINE.match(head, start)
    if line is None:
        refusal.refuse_request_line(head[start:])
    method, target, minor = line.groups()
    version = (1, 1) if minor == b"1" else (1, 0)
    end = line.end()
    fields = parse_fields(head[end:], REQUEST, max_fields=max_fields)
    found = values_of(fields, _WATCHED)
    length, chunked = read_length(found, version, REQUEST)
    host, port = _identify(method, target, found.get(b"host"))
    options = read_options(found.get(b"connection"), REQUEST)
    upgrade = method == b"GET" and version == (1, 1) and not (length or chunked) and offers_websocket(found, options)
    return RequestHead(
        method.decode("ascii"),
        target,
        version,
        host,
        port,
        len(head),
        head[start:end],
        fields,
        length,
        chunked,
        options,
        keeps_alive(options, version),
        upgrade,
        b"expect" in found,
        logs_in(found, LOGIN_FIELDS),
    )


_repeated = Repeated(parse_head)


def read_head(
    buffer: bytes | bytearray,
    start: int,
    end: int,
    max_bytes: int = limits.MAX_HEAD_BYTES,
    repeated: Repeated[RequestHead] = _repeated,
) -> RequestHead | None:
    """Parse the head that begins at ``start`` of the ``end`` bytes received in
    ``buffer``, in one step.

    Returns None if it is not whole: a HeadReader then takes ``buffer[start:end]`` and
    what follows. The body begins at ``start`` plus the head's ``size``. Raises as
    ``HeadReader.feed`` does. ``repeated`` remembers heads, and has its own limit of
    fields.
    """
    blank = buffer.find(b"\r\n\r\n", start, end)
    if blank < 0:
        return None
    if blank + 4 - start > max_bytes:
        refusal.refuse_size(REQUEST, max_bytes)
    return repeated.read(bytes(buffer[start : blank + 4]))


def _identify(method: bytes, target: bytes, hosts: list[bytes] | None) -> tuple[str, int | None]:
    """Return the one host and port that the request is for (RFC 9112, sections 3.2 and
    3.3).
    """
    if hosts is None:
        raise errors.NoHost("The request has no Host field, so that no tunnel can be found; send one.")
    if len(hosts) > 1:
        REQUEST.refuse(f"The request has {len(hosts)} Host fields; exactly one is allowed (RFC 9112, 3.2).")
    host, port = _parse_host(hosts[0])
    if not host:
        raise errors.NoHost("The request's Host field is empty, so that no tunnel can be found; name the host in it.")
    if method == b"CONNECT":
        REQUEST.refuse("The method CONNECT asks for a proxy, and this is not one; request the page itself.")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        _check_absolute_form(target, hosts[0], host, port)
    return host, port


def _parse_host(value: bytes) -> tuple[str, int | None]:
    if len(value) <= _MAX_KEPT_HOST:
        return _parse_short_host(value)
    return parse_authority(value, "The Host field")


@lru_cache(_KEPT_HOSTS)
def _parse_short_host(value: bytes) -> tuple[str, int | None]:
    return parse_authority(value, "The Host field") if value else ("", None)


def _check_absolute_form(target: bytes, value: bytes, host: str, port: int | None) -> None:
    """Refuse a target that is not in absolute form, or names another host than
    ``value``.

    RFC 9112, 3.2.2 lets the target win. Here two hosts in one request are refused: the
    upstream might pick the other one.
    """
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        REQUEST.refuse(
            f"The request's target is {shown(target)}; it has to begin with a slash, or with http:// and a host."
        )
    scheme, authority = absolute.groups()
    default_port = _DEFAULT_PORTS[scheme.lower()]
    named, named_port = parse_authority(authority, "The authority in the request's target")
    if (named, named_port or default_port) != (host, port or default_port):
        REQUEST.refuse(
            f"The request's target names the host {shown(authority)} and its Host field "
            f"{shown(value)}; both have to be the same."
        )
