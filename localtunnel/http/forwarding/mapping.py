"""Maps origins where the upstream is told another host than the visitor addressed.

Such an upstream believes that it is at ``http://`` and that host. The tunnel's origin
in a request is mapped to it, since applications compare Origin and Referer with Host to
detect forged requests. The upstream's origin in a response is mapped to the one that
visitors can reach. Any other origin stays as it is.
"""

import re

OF_REQUESTS = frozenset({b"origin", b"referer"})
"""Fields of a request that may name the tunnel's own origin (RFC 6454, section 7; RFC
9110, section 10.1.3)."""

OF_RESPONSES = frozenset({b"access-control-allow-origin", b"content-location", b"location", b"refresh"})
"""Fields of a response that may name the upstream's origin."""

ORIGIN = re.compile(rb"(https?:)?//([^/?#]*)", re.IGNORECASE)
"""What a URL begins with unless it is a path: the scheme if any, and the host."""

_REFRESH = re.compile(rb"[0-9.]*[ \t]*[;,][ \t]*(?:url[ \t]*=[ \t]*)?[\"']?", re.IGNORECASE)
"""What stands before the URL in a Refresh field (HTML, "shared declarative refresh
steps")."""

_DEFAULT_PORTS = {b"http:": b":80", b"https:": b":443"}


def to_upstream(value: bytes, own: bytes, upstream: bytes) -> bytes:
    """Return the value of a field of OF_REQUESTS with the origin ``upstream`` where it
    names ``own``.

    ``own`` is the tunnel's, as the visitor addressed it: only the same scheme, host and
    port are the same origin.
    """
    found, ours = ORIGIN.match(value), ORIGIN.match(own)
    if found is None or ours is None or not found[1] or found[1].lower() != ours[1]:
        return value
    if _host_of(found) != _host_of(ours):
        return value
    return upstream + value[found.end() :]


def to_visitor(name: bytes, value: bytes, host: bytes, own: bytes) -> bytes:
    """Return the value of the field ``name`` of OF_RESPONSES with the origin ``own``
    where it names ``host``.

    Either scheme counts: an upstream that believes X-Forwarded-Proto uses the
    visitor's.
    """
    start = 0
    if name == b"refresh":
        before = _REFRESH.match(value)
        start = before.end() if before is not None else 0
    found = ORIGIN.match(value, start)
    if found is None:
        return value
    port = _DEFAULT_PORTS.get((found[1] or b"http:").lower(), b"")
    if found[2].lower().removesuffix(port) != host.lower().removesuffix(port):
        return value
    return value[:start] + own + value[found.end() :]


def _host_of(found: "re.Match[bytes]") -> bytes:
    """Return host and port, without the scheme's default port."""
    return found[2].lower().removesuffix(_DEFAULT_PORTS[found[1].lower()])
