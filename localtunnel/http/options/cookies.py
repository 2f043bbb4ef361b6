"""Keeps the cookies of a response to the tunnel's own host: its domain has other
owners.

A cookie for ``example.com`` goes to every tunnel below it (RFC 6265, sections 4.1.2.3
and 5.2.3). With such a cookie, an upstream could plant a session in other tunnels, and
they could read what was meant for this one. So it does not leave the server.
Clear-Site-Data with ``"cookies"`` empties the whole registered domain, and would log
visitors out of every tunnel.
"""

import re

_DOMAIN = re.compile(rb";[ \t]*domain[ \t]*(?:=([^;]*))?(?=;|\Z)", re.IGNORECASE)
_PLAIN_HOST = re.compile(rb"\.?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
"""Browsers differ on escapes and Unicode in host names, which no cookie needs."""

_DIRECTIVE = re.compile(rb'"[A-Za-z0-9:_-]+"')
_ALL = b'"*"'
_ALL_BUT_COOKIES = (b'"cache"', b'"storage"')


def fit_domain(value: bytes, host: bytes, upstream_host: bytes | None) -> bytes | None:
    """Return the value of a Set-Cookie field with its Domain made fit for ``host``, or
    None to drop the cookie.

    ``host`` is what the visitor addressed, and ``upstream_host`` what the upstream was
    told instead, None if it was told the same. Both are in lower case, without a port.
    A Domain that is the upstream's host, or contains it, becomes ``host``. A Domain
    that contains ``host`` is dropped, and so is one whose meaning is unclear. The
    browser judges any other, and takes none that does not contain ``host``.
    """
    if b"domain" not in value.lower():
        return value
    mapped = False
    kept: list[bytes] = []
    """Pieces of the new value, from its end to its beginning."""
    end = len(value)
    for found in reversed(list(_DOMAIN.finditer(value))):
        domain = (found[1] or b"").strip(b" \t").lower()
        if not domain:
            continue
        if not _PLAIN_HOST.fullmatch(domain):
            return None
        domain = domain.strip(b".")
        if upstream_host is not None and _lies_in(upstream_host, domain):
            kept.append(value[found.end() : end])
            # Of several, the last one counts (RFC 6265, section 5.3). A host for each
            # of them would let a value grow tenfold.
            kept.append(b"" if mapped else b"; Domain=" + host)
            end = found.start()
            mapped = True
        elif domain != host and _lies_in(host, domain):
            return None
    return b"".join((value[:end], *reversed(kept))) if mapped else value


def fit_clearing(value: bytes) -> bytes | None:
    """Return the value of a Clear-Site-Data field without cookies; None if nothing is
    left.

    Everything else that it clears belongs to the host alone (W3C, Clear Site Data,
    3.1).
    """
    kept: list[bytes] = []
    for element in value.split(b","):
        directive = element.strip(b" \t")
        if directive == _ALL:
            kept.extend(_ALL_BUT_COOKIES)
        elif _DIRECTIVE.fullmatch(directive) and b"cookies" not in directive.lower():
            kept.append(directive)
    return b", ".join(kept) or None


def _lies_in(host: bytes, domain: bytes) -> bool:
    return host == domain or host.endswith(b"." + domain)
