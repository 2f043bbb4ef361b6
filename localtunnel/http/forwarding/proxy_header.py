"""The header of HAProxy's PROXY protocol, versions 1 and 2.

A proxy begins each connection with it, to say where the connection came from.
``ProxyHeader`` takes the bytes as they arrive, and refuses any deviation; the bytes
behind the header are the visitor's. The caller decides before the first byte whether to
believe the peer.
"""

import re
import struct
from ipaddress import ip_address
from typing import NamedTuple

from localtunnel.errors import BadRequest
from localtunnel.networks import parse_address, plain
from localtunnel.protocol.limits import MAX_PORT

MAX_LINE = 107
"""Bytes of a header in version 1, its CRLF included: the longest by section 2.1 of the
specification."""

MAX_BINARY = 4096
"""Bytes of a header in version 2: addresses take 52 (232 for unix sockets); with TLS,
extensions may carry names and a certificate's subject. The specification would allow 64
KiB, which no proxy sends."""

_SIGNATURE_1 = b"PROXY"
_SIGNATURE_2 = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")

_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) %b %b\r\n" % (_PORT, _PORT))
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6 = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")
_ADDRESSES = {0x11: _IPV4, 0x21: _IPV6}
"""The byte of family and transport for TCP over IPv4 and IPv6."""
_OTHER_FAMILIES = {0x00: 0, 0x12: _IPV4.size, 0x22: _IPV6.size, 0x31: 216, 0x32: 216}
"""Valid families without a TCP address (none, UDP, unix sockets) and their sizes; their
address counts as unknown (section 2.2)."""


class Origin(NamedTuple):
    """Where a connection came from. ``host`` is empty where the proxy does not say.

    The connection's own peer counts then. Health checks of the proxy begin like that.
    """

    host: str
    port: int


UNKNOWN = Origin("", 0)


class ProxyHeader:
    """Collects one header: feed it until it returns the origin; ``rest`` followed."""

    def __init__(self) -> None:
        self.rest = b""
        self._received = b""

    def feed(self, data: bytes) -> Origin | None:
        """Return the origin once the header is whole, None before that.

        Raises BadRequest at the first byte that no header has there; the caller then
        closes the connection.
        """
        received = self._received = self._received + data
        is_binary = received[:1] == _SIGNATURE_2[:1]
        signature = _SIGNATURE_2 if is_binary else _SIGNATURE_1
        if received[: len(signature)] != signature[: len(received)]:
            raise BadRequest("A proxy has to begin this connection with a PROXY protocol header; let it send one.")
        end, origin = _binary(received) if is_binary else _line(received)
        if origin is not None:
            self.rest = received[end:]
            self._received = b""
        return origin


def _line(received: bytes) -> tuple[int, Origin | None]:
    """Return end and origin of a header in version 1; (0, None) if it is not whole."""
    end = received.find(b"\n", 0, MAX_LINE) + 1
    if not end:
        if len(received) >= MAX_LINE:
            raise BadRequest(f"The PROXY protocol header has no end within {MAX_LINE} bytes.")
        return 0, None
    line = received[:end]
    if _UNKNOWN.fullmatch(line):
        return end, UNKNOWN
    match = _LINE.fullmatch(line)
    if match is not None:
        family, source, destination, source_port, destination_port = match.groups()
        host = _address(family, source)
        if host and _address(family, destination) and max(int(source_port), int(destination_port)) <= MAX_PORT:
            return end, Origin(host, int(source_port))
    raise BadRequest("The PROXY protocol header is not a valid line of version 1.")


def _address(family: bytes, text: bytes) -> str:
    if (b":" in text) != (family == b"TCP6"):
        return ""
    address = parse_address(text.decode("ascii"))
    return "" if address is None else str(address)


def _binary(received: bytes) -> tuple[int, Origin | None]:
    """Return end and origin of a header in version 2; (0, None) if it is not whole."""
    if len(received) < _FIXED.size:
        return 0, None
    _, command, family, length = _FIXED.unpack_from(received)
    end = _FIXED.size + length
    if command not in (_LOCAL, _PROXY):
        raise BadRequest("The PROXY protocol header has a version or a command that is not known here.")
    if end > MAX_BINARY:
        raise BadRequest(f"The PROXY protocol header announces {end} bytes, but {MAX_BINARY} are the most taken here.")
    if command == _PROXY:
        _check_family(family, length)
    if len(received) < end:
        return 0, None
    if command == _LOCAL or family not in _ADDRESSES:
        return end, UNKNOWN
    source, _, port, _ = _ADDRESSES[family].unpack_from(received, _FIXED.size)
    return end, Origin(str(plain(ip_address(source))), port)


def _check_family(family: int, length: int) -> None:
    wanted = _ADDRESSES[family].size if family in _ADDRESSES else _OTHER_FAMILIES.get(family)
    if wanted is None:
        raise BadRequest("The PROXY protocol header has an address family that is not known here.")
    if length < wanted:
        raise BadRequest("The PROXY protocol header is too short for its addresses.")
