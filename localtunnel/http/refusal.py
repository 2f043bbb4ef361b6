"""Why a head was refused, in one sentence: read only once something is wrong, so that clearness comes before speed."""

import re
from collections.abc import Iterator

from localtunnel import errors
from localtunnel.http.authority import shown

BARE_LINE_END = (
    "The request's head contains a carriage return or a line feed on its own; every line has to end in both (CRLF)."
)

_OTHER_PROTOCOLS = {
    b"\x16": "This port speaks plain HTTP, but a TLS handshake arrived; use http:// in the URL, not https://.",
    b"PRI * HTTP/2": "This server speaks HTTP/1.1, but an HTTP/2 preface arrived; let the program use HTTP/1.1.",
    b"LTP/": "This port is the frontend, which speaks HTTP, but an LTP header arrived; connect to the backend's port.",
}
LONGEST_PREFIX = max(map(len, _OTHER_PROTOCOLS))
"""Bytes after which it is settled that a connection speaks none of the protocols that are recognised here."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(rb"HTTP/[0-9.]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def refuse_other_protocols(received: bytes | bytearray) -> None:
    """Raise ``errors.BadRequest`` once the first bytes are those of another protocol, none of which begins as HTTP/1.x.

    A peer that speaks one of them would never send the blank line that ends a head: it must not wait for a timeout.
    """
    for prefix, sentence in _OTHER_PROTOCOLS.items():
        if received.startswith(prefix):
            raise errors.BadRequest(sentence)


def request_line_fault(head: bytes) -> str:
    """Say what is wrong with the request line that ``head`` begins with."""
    line = head.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        return "More than one empty line comes before the request line; send the request line first."
    if _CONTROL.search(line) or b"\t" in line:
        return "The request line contains a control character or a line end on its own; remove it."
    parts = line.split(b" ")
    if len(parts) == 2 and _TOKEN.fullmatch(parts[0]):
        return "The request line has no version, as in HTTP/0.9, which is not spoken here; use HTTP/1.1."
    if len(parts) != 3 or not all(parts):
        return f"The request line is {shown(line)}; it has to be method, target and version, with one space between."
    method, target, version = parts
    if not _TOKEN.fullmatch(method):
        return f"The request's method is {shown(method)}, which is not a valid method name."
    if not _VERSION.fullmatch(version):
        return f"The request line ends in {shown(version)}; it has to end in HTTP/1.1 or HTTP/1.0."
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        return f"The request asks for {version[:16].decode('ascii')}, which is not spoken here; use HTTP/1.1."
    return f"The request's target is {shown(target)}; a fragment (from # on) is not sent to a server."


def split_fields(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of the field lines in ``section``, which ends with the blank line.

    Raises ``errors.BadRequest`` at the first line that is not a field line (RFC 9112, section 5).
    """
    for line in section.split(b"\r\n")[:-2]:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            raise errors.BadRequest("A line of the request's head begins with white space; put each field on one line.")
        if not colon:
            raise errors.BadRequest(f"A line of the request's head is {shown(line)}; a field needs a name and a colon.")
        if name != name.rstrip(b" \t"):
            raise errors.BadRequest(f"There is white space before the colon in {shown(line)}; remove it.")
        if not _TOKEN.fullmatch(name):
            raise errors.BadRequest(f"{shown(name)} is not a valid name of a field in the request's head.")
        if _CONTROL.search(value):
            raise errors.BadRequest(f"The request's field {shown(name)} contains a control character; remove it.")
        yield name, value
