"""The heads that go on: requests as the upstream gets them, responses as visitors do.

Fields about one connection only are dropped in both directions (RFC 9110, section
7.6.1), and a visitor's claims about itself are replaced by what is known
(``message.spoofable``). Every other line goes on as it came, spelling and order
included. Via is passed on, and none is added: several servers do not compress for a
request with it.
"""

from typing import Final

from localtunnel.errors import UpstreamInvalid
from localtunnel.http.forwarding import mapping
from localtunnel.http.message import spoofable
from localtunnel.http.message.fields import FRAMING, HOP_BY_HOP, OWN_PREFIX, PROXY_ORDERS, plain_name
from localtunnel.http.message.framing import NO_OPTIONS
from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import FINAL, SWITCHING_PROTOCOLS, ResponseHead
from localtunnel.http.options.cookies import fit_clearing, fit_domain
from localtunnel.http.options.rules import Rules

CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
UPGRADE: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
TE_TRAILERS: Final = b"Connection: TE\r\nTE: trailers\r\n"
"""RFC 9110, section 10.1.4: TE is about one connection, so that its Connection option
goes with it."""

NEVER_NAMED = FRAMING | {b"authorization", b"cookie", b"origin", b"set-cookie"}
"""Fields that a Connection field cannot remove. If a visitor removed one of them here,
the upstream would see another request than the one that was checked."""

_DROPPED = HOP_BY_HOP | spoofable.NAMES
_NOT_FOR_VISITORS = HOP_BY_HOP | PROXY_ORDERS
_HARMLESS_OPTIONS = HOP_BY_HOP | {b"close"}
"""Connection options that name no field, or one that is dropped anyway."""

_PLAIN_REQUEST = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language access-control-request-headers access-control-request-method
    authorization cache-control content-disposition content-encoding content-language content-length content-type cookie
    date dnt expect host if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma priority
    range referer sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site
    sec-fetch-user sec-gpc sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version
    trailer transfer-encoding upgrade-insecure-requests user-agent x-csrf-token x-request-id x-requested-with
    """.split()
)
_PLAIN_RESPONSE = frozenset(
    b"""
    accept-ranges access-control-allow-credentials access-control-allow-headers access-control-allow-methods
    access-control-allow-origin age allow alt-svc cache-control content-disposition content-encoding content-language
    content-length content-location content-range content-security-policy content-type date etag expires last-modified
    link pragma referrer-policy retry-after sec-websocket-accept sec-websocket-extensions sec-websocket-protocol server
    server-timing strict-transport-security trailer transfer-encoding vary www-authenticate x-content-type-options
    x-frame-options x-powered-by x-request-id x-xss-protection
    """.split()
)
"""Usual names that need no look, as a shortcut; the list need not be complete."""

_EXPECTATION = frozenset({b"expect"})
"""Dropped from a request of HTTP/1.0, whose visitor does not know a 100 (RFC 9110,
section 10.1.1)."""

_CHUNKED = frozenset({b"transfer-encoding", b"trailer"})
"""Dropped from a chunked response to HTTP/1.0, with the chunks and the trailer."""


class Forwarding:
    """The fields that tell the upstream about one visitor.

    ``address`` is the visitor's, without a port, and ``proto`` the scheme that it used,
    ``http`` or ``https``.
    """

    __slots__ = ("_end", "_host", "_lines", "_port", "_start", "proto")

    def __init__(self, address: str, proto: str) -> None:
        plain = address.partition("%")[0]
        node = f'"[{plain}]"' if ":" in plain else plain
        self.proto = proto
        self._start = (
            f"X-Forwarded-For: {plain}\r\nX-Real-IP: {plain}\r\nX-Forwarded-Proto: {proto}\r\nX-Forwarded-Host: "
        )
        self._end = f"\r\nForwarded: for={node};proto={proto};host="
        self._host = ""
        self._port: int | None = None
        self._lines = b""

    def lines(self, head: RequestHead) -> bytes:
        """Return the field lines for ``head`` (RFC 7239, and the fields before it)."""
        if head.host != self._host or head.port != self._port:
            self._host, self._port = head.host, head.port
            host = head.addressed
            self._lines = f'{self._start}{host}{self._end}"{host}"\r\n'.encode("latin-1")
        return self._lines

    def origin(self, head: RequestHead) -> bytes:
        """Return scheme, host and port under which the visitor knows the tunnel."""
        return f"{self.proto}://{head.addressed}".encode("latin-1")


def request_head(head: RequestHead, forwarding: Forwarding, rules: Rules | None = None) -> bytes:
    """Return the whole head of the request for the upstream.

    It is HTTP/1.1 and keeps the connection, whatever the visitor's version (RFC 9112,
    section 2.3).
    """
    is_old = head.version == (1, 0)
    if rules is None and not is_old and head.options <= _HARMLESS_OPTIONS:
        kept = [line for name, _, line in head.fields if name in _PLAIN_REQUEST or _passes(name)]
        added = b""
    else:
        drop = _named(head.options)
        if is_old:
            drop |= _EXPECTATION
        if rules is not None:
            drop |= rules.request_drop
        kept = [
            _request_field(name, value, line, head, forwarding, rules)
            for name, value, line in head.fields
            if plain_name(name) not in drop and _passes(name)
        ]
        added = rules.request_lines if rules is not None else b""
    connection = b""
    if head.upgrade:
        connection = UPGRADE
    elif b"te" in head.options and not is_old and _takes_trailers(head):
        connection = TE_TRAILERS
    return b"".join((_request_line(head), *kept, added, connection, forwarding.lines(head), b"\r\n"))


def response_head(
    head: ResponseHead,
    request: RequestHead,
    forwarding: Forwarding,
    rules: Rules | None = None,
    *,
    close: bool,
    extra: bytes = b"",
) -> bytes:
    """Return the head of a final or interim response to ``request`` for its visitor.

    ``close``: the visitor's connection is closed after it. ``extra`` is whole lines for
    a final response. HTTP/1.0 has no chunks: its visitors are not told of them, and the
    caller takes them out. Raises UpstreamInvalid for a 101 that was not asked for (RFC
    9110, section 15.2.2).
    """
    if head.status == SWITCHING_PROTOCOLS and not (head.upgrade and request.upgrade):
        raise UpstreamInvalid("The response changes to a protocol that the visitor has not asked for.")
    drop = _named(head.options)
    if head.chunked and request.version == (1, 0):
        drop |= _CHUNKED
    if rules is not None:
        drop |= rules.response_drop
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    is_mapped = rules is not None and rules.host is not None
    for name, value, line in head.fields:
        if name in _PLAIN_RESPONSE and not (is_mapped and name in mapping.OF_RESPONSES):
            if name not in drop:
                lines.append(line)
        elif plain_name(name) not in drop:
            lines.append(_response_line(name, value, line, request, forwarding, rules))
    if head.status == SWITCHING_PROTOCOLS:
        lines.append(UPGRADE)
    elif head.status >= FINAL:
        lines.append(CLOSE if close else KEEP_ALIVE if request.version == (1, 0) else b"")
        lines.append(extra)
        if rules is not None:
            lines.append(rules.response_lines)
            lines += [_cookie_line(value, b"", request, rules) for value in rules.response_cookies]
    lines.append(b"\r\n")
    return b"".join(lines)


def server_timing(edge: float, tunnel: float, upstream: float) -> bytes:
    """Return the field line for the seconds of each part (W3C, Server Timing)."""
    times = (edge * 1000, tunnel * 1000, upstream * 1000)
    return b"Server-Timing: edge;dur=%.1f, tunnel;dur=%.1f, upstream;dur=%.1f\r\n" % times


def _request_line(head: RequestHead) -> bytes:
    line = head.line if head.version == (1, 1) else head.line.removesuffix(b"0\r\n") + b"1\r\n"
    if head.raw_target[:1] in (b"/", b"*"):
        return line
    # RFC 9112, section 3.2.1: only a proxy is sent the absolute form, and the Host
    # field says the same.
    path = mapping.ORIGIN.sub(b"", head.raw_target, count=1)
    if not path.startswith(b"/"):
        path = b"*" if head.method == "OPTIONS" and not path else b"/" + path
    return line.replace(head.raw_target, path, 1)


def _named(options: frozenset[bytes]) -> frozenset[bytes]:
    """Return the plain names of the fields that only a Connection option removes."""
    if options <= _HARMLESS_OPTIONS:
        return NO_OPTIONS
    return frozenset(map(plain_name, options)) - NEVER_NAMED


def _passes(name: bytes) -> bool:
    """Say whether a request's field goes on, unless a rule or an option removes it."""
    plain = plain_name(name)
    if plain in _DROPPED or plain.startswith(spoofable.PREFIXES):
        return False
    # Content_Length is Content-Length to an upstream with CGI or WSGI, and has not been
    # checked here.
    return plain == name or plain not in FRAMING


def _request_field(
    name: bytes, value: bytes, line: bytes, head: RequestHead, forwarding: Forwarding, rules: Rules | None
) -> bytes:
    """Return what the upstream gets of a line that goes on."""
    if name not in mapping.OF_REQUESTS or rules is None or rules.host is None:
        return line
    return _line(line, value, mapping.to_upstream(value, forwarding.origin(head), b"http://" + rules.host))


def _line(line: bytes, value: bytes, mapped: bytes) -> bytes:
    """Return ``line`` with the value ``mapped`` instead of ``value``."""
    return line if mapped is value else line.partition(b":")[0] + b": " + mapped + b"\r\n"


def _takes_trailers(head: RequestHead) -> bool:
    codings = b",".join(value for name, value, _ in head.fields if name == b"te").lower()
    return b"trailers" in [coding.strip(b" \t") for coding in codings.split(b",")]


def _response_line(
    name: bytes, value: bytes, line: bytes, request: RequestHead, forwarding: Forwarding, rules: Rules | None
) -> bytes:
    """Return what the visitor gets of a line: all, a fitted part, or nothing."""
    plain = plain_name(name)
    if plain in _NOT_FOR_VISITORS or plain.startswith(OWN_PREFIX) or (plain != name and plain in FRAMING):
        return b""
    if name == b"set-cookie":
        return _cookie_line(value, line, request, rules)
    if name == b"clear-site-data":
        fit = fit_clearing(value)
        return b"" if fit is None else b"Clear-Site-Data: " + fit + b"\r\n"
    if name in mapping.OF_RESPONSES and rules is not None and rules.host is not None:
        return _line(line, value, mapping.to_visitor(name, value, rules.host, forwarding.origin(request)))
    return line


def _cookie_line(value: bytes, line: bytes, request: RequestHead, rules: Rules | None) -> bytes:
    """Return the Set-Cookie line for ``value``, fitted to the visitor's host."""
    upstream = rules.host_name if rules is not None else None
    fit = fit_domain(value, request.host.encode("latin-1"), upstream)
    if fit is None:
        return b""
    return line if line and fit is value else b"Set-Cookie: " + fit + b"\r\n"
