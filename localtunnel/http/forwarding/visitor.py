"""Who a visitor is: the peer of the connection, or the address that a trusted proxy
names.

Only proxies that the operator has listed may speak for their visitors, through
X-Forwarded-For and X-Forwarded-Proto. X-Forwarded-Host is not read: the Host field
alone decides which tunnel a request belongs to and which rules apply. With two fields
that could name two tunnels, a request could be checked as one and delivered to the
other, and a proxy that appends to the visitor's value would leave the choice to the
visitor. So a proxy has to pass the Host field on as it came. Forwarded (RFC 7239) is
not read either: few proxies send it, and some pass on what a visitor wrote in it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from localtunnel.networks import Networks, parse_address

MAX_HOPS = 16
"""Addresses of X-Forwarded-For that are read, from the right: real chains have three or
four."""


class Visitor(NamedTuple):
    """``address`` without a port, and the scheme that the visitor used, ``http`` or
    ``https``.
    """

    address: str
    proto: str


def identify(
    peer_host: str, fields: Iterable[tuple[bytes, bytes, bytes]], trusted: Networks, proto: str = "http"
) -> Visitor:
    """Return who sent a request with ``fields`` from ``peer_host``.

    ``proto`` is the scheme unless a trusted proxy says otherwise. A connection whose
    peer is not in ``trusted`` has one visitor for all its requests.

    Read from the right, each proxy has added the address that it was connected from.
    The first address that is not a trusted proxy's is the visitor's; the visitor may
    have invented what stands left of it. An invalid address ends the walk at the one
    before it. Of several schemes the last one counts, which the nearest proxy has set.
    """
    address = peer_host
    if peer_host in trusted:
        chain: list[bytes] = []
        for name, value, _ in fields:
            if name == b"x-forwarded-for":
                chain.append(value)
            elif name == b"x-forwarded-proto":
                proto = _scheme(value) or proto
        for hop in reversed(b",".join(chain).rsplit(b",", MAX_HOPS)[-MAX_HOPS:]):
            host = _host(hop)
            if not host:
                break
            address = host
            if address not in trusted:
                break
    return Visitor(address, proto)


def _scheme(value: bytes) -> str:
    last = value.rpartition(b",")[2].strip().lower()
    return last.decode("ascii") if last in (b"http", b"https") else ""


def _host(hop: bytes) -> str:
    """Return the address in ``hop`` in its usual spelling, without a port, or ''."""
    text = hop.strip(b" \t")
    if text.startswith(b"["):
        text, bracket, port = text[1:].partition(b"]")
        if not bracket or (port and not _is_port(port)):
            return ""
    elif text.count(b":") == 1:
        text, _, digits = text.partition(b":")
        if not _is_port(b":" + digits):
            return ""
    if b"%" in text:
        return ""
    found = parse_address(text.decode("latin-1"))
    return "" if found is None else str(found)


def _is_port(text: bytes) -> bool:
    return text[:1] == b":" and len(text) <= len(b":65535") and text[1:].isdigit()
