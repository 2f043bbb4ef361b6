"""A request's host and port, in one form for routing and guards (RFC 9110, 7.2)."""

import ipaddress
import re

from localtunnel import errors
from localtunnel.http.message.refusal import shown
from localtunnel.protocol.limits import MAX_PORT

_AUTHORITY = re.compile(
    rb"""
    (?: \[ (?P<literal> [0-9A-Fa-f:.]+ ) \]                                          # IPv6 only, without a zone
      | (?P<name> (?: [A-Za-z0-9\-._~!$&'()*+,;=] | %[0-9A-Fa-f]{2} )+ ) )           # RFC 3986, 3.2.2: reg-name
    (?: : (?P<port> [0-9]{0,5} ) )?
    """,
    re.VERBOSE,
)


def parse_authority(text: bytes, where: str) -> tuple[str, int | None]:
    """Parse ``host[:port]``: the host in lower case, without brackets and final dot.

    An IPv6 literal comes back in its canonical spelling (RFC 5952). Percent-encoding is
    valid and is kept, so that an encoded name never equals a tunnel's. An empty port
    counts as none (RFC 3986, section 3.2.3).

    Raises BadRequest for anything else, including user information; ``where`` begins
    the sentence.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise errors.BadRequest(_fault(text, where))
    literal, name, port_digits = match.groups()
    port = int(port_digits) if port_digits else None
    if port is not None and port > MAX_PORT:
        raise errors.BadRequest(f"{where} has the port {port}, but a port is at most {MAX_PORT}.")
    if literal is None:
        return name.decode("ascii").lower().removesuffix("."), port
    try:
        return str(ipaddress.IPv6Address(literal.decode("ascii"))), port
    except ipaddress.AddressValueError:
        raise errors.BadRequest(_fault(text, where)) from None


def _fault(text: bytes, where: str) -> str:
    if b"@" in text:
        return f"{where} carries user information, which HTTP does not allow there; send the host alone."
    return f"{where} is {shown(text)}, which is not a host name or an IP address with an optional port."
