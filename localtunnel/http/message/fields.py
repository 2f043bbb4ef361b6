"""The field section of a head or a trailer, read by the same strict rules.

Every message passes here, so there are few steps: one pass in C that leaves nothing but
the line ends of a valid section, one that cuts it into lines, and a table of the usual
names. A section that fails one of them is read again by ``refusal``, which finds the
words.
"""

import re

from localtunnel.http.grammar import TOKEN
from localtunnel.http.message import refusal
from localtunnel.http.message.refusal import Kind
from localtunnel.protocol import limits

Field = tuple[bytes, bytes, bytes]
"""Name in lower case, value without white space around it, and the whole line as it
came, CRLF included."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
    }
)
"""Fields about one connection only (RFC 9110, sections 7.6.1 and 11.7), by the standard
or in practice."""

FRAMING = frozenset({b"content-length", b"expect", b"host", b"trailer", b"transfer-encoding"})
"""Fields that say where a message ends, or where it goes."""

OWN_PREFIX = b"x-localtunnel-"
"""Prefix of the server's own fields in a response, which no upstream and no option may
set."""

PROXY_ORDERS = frozenset(
    {
        b"x-accel-redirect",
        b"x-lighttpd-send-file",
        b"x-lighttpd-send-tempfile",
        b"x-litespeed-location",
        b"x-reproxy-file",
        b"x-reproxy-service",
        b"x-reproxy-url",
        b"x-sendfile",
        b"x-sendfile-temporary",
        b"x-sendfile2",
    }
)
"""Fields of a response that tell the proxy in front of an application to answer with a
file or a page of its own instead. nginx obeys unless it is told not to. Here the proxy
is the operator's, and the owner of a tunnel must not read its files: no upstream and no
option may set them."""

_TOKEN = re.compile(TOKEN)
_NOT_CONTROL = b"\t" + bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)
_PLAIN = bytes(ord(chr(byte).lower()) if byte < 0x80 and chr(byte).isalnum() else ord("-") for byte in range(0x100))
_USUAL_NAMES = b"""
    Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Credentials
    Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin Access-Control-Request-Headers
    Access-Control-Request-Method Age Allow Alt-Svc Authorization Cache-Control Connection Content-Disposition
    Content-Encoding Content-Language Content-Length Content-Location Content-Range Content-Security-Policy Content-Type
    Cookie DNT Date ETag Expect Expires Forwarded Host If-Match If-Modified-Since If-None-Match If-Range
    If-Unmodified-Since Keep-Alive Last-Modified Link Location Origin Pragma Priority Proxy-Connection Range Referer
    Referrer-Policy Retry-After Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode
    Sec-Fetch-Site Sec-Fetch-User Sec-GPC Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key
    Sec-WebSocket-Protocol Sec-WebSocket-Version Server Server-Timing Set-Cookie Strict-Transport-Security TE Trailer
    Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Vary Via WWW-Authenticate X-Content-Type-Options
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Frame-Options X-Powered-By X-Real-IP X-Request-ID
    X-Requested-With X-XSS-Protection sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform
""".split()


class _Names(dict[bytes, bytes]):
    """Lower-case names by their usual spellings; any other is checked each time."""

    def __missing__(self, name: bytes) -> bytes:
        if _TOKEN.fullmatch(name) is None:
            raise KeyError(name)
        return name.lower()


_NAMES = _Names({spelling: name.lower() for name in _USUAL_NAMES for spelling in (name, name.title(), name.lower())})


def parse_fields(
    section: bytes, kind: Kind, part: str = "head", max_fields: int = limits.MAX_HEAD_FIELDS
) -> list[Field]:
    """Return the fields of ``section``: field lines, and the empty line after them.

    Raises the error of ``kind`` for anything that RFC 9112, section 5 does not allow or
    lets a recipient repair: a line that does not end in CRLF, white space before a
    colon, a folded line, an empty name, a control character. It raises it for more than
    ``max_fields`` too. ``part`` is what the sentence calls the section.
    """
    lines = section.splitlines(True)
    # Without all other bytes, a valid section is one CRLF for each line. A CR or LF by
    # itself, or in the wrong order, would have begun another line.
    if section.translate(None, _NOT_CONTROL) != b"\r\n" * len(lines) or lines[-1:] != [b"\r\n"]:
        refusal.refuse_fields(section, kind, part)
    lines.pop()
    if len(lines) > max_fields:
        refusal.refuse_fields(section, kind, part, max_fields)
    fields = []
    try:
        for line in lines:
            # Without a colon, the line end stays in the name, which is not a token
            # then.
            name, _, value = line.partition(b":")
            fields.append((_NAMES[name], value.strip(), line))
    except KeyError:
        refusal.refuse_fields(section, kind, part)
    return fields


def plain_name(name: bytes) -> bytes:
    """Return ``name`` in lower case, with a hyphen for all but letters and digits.

    Names are compared in this form wherever another program might confuse them: CGI,
    WSGI and PHP make the same variable of ``X-Real-IP``, ``X_Real_IP`` and
    ``X.Real.IP`` (RFC 3875, section 4.1.18).
    """
    return name.translate(_PLAIN)


def values_of(fields: list[Field], names: frozenset[bytes]) -> dict[bytes, list[bytes]]:
    """Return the values of the fields ``names`` (lower case) by name, in order."""
    found: dict[bytes, list[bytes]] = {}
    for name, value, _ in fields:
        if name in names:
            found.setdefault(name, []).append(value)
    return found
