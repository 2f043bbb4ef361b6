"""Why a message was refused, in one sentence. This runs only for invalid messages.

A refused request ends in BadRequest, a refused response in UpstreamInvalid. The
sentences are the same; ``Kind`` is the difference.
"""

import re
from typing import NoReturn

from msgspec import Struct

from localtunnel import errors
from localtunnel.http.grammar import TOKEN
from localtunnel.protocol import limits


class Kind(Struct, frozen=True):
    """A request or a response: its name in sentences, and its error."""

    noun: str
    error: type[errors.VisitorError]

    def refuse(self, sentence: str) -> NoReturn:
        """Raise this kind's error with ``sentence``."""
        raise self.error(sentence)


REQUEST = Kind("request", errors.BadRequest)
RESPONSE = Kind("response", errors.UpstreamInvalid)

_OTHER_PROTOCOLS = {
    b"\x16": "This port speaks plain HTTP, but a TLS handshake arrived; use http:// in the URL, not https://.",
    b"PRI * HTTP/2": "This server speaks HTTP/1.1, but an HTTP/2 preface arrived; let the program use HTTP/1.1.",
    b"LTP/": "This port is the frontend, which speaks HTTP, but an LTP header arrived; connect to the backend's port.",
}
_MAX_FIRST_LINE = 256
"""Bytes of a head that are searched for its first line, to show that."""

_SHOWN = 80
"""How many of a visitor's bytes an error message repeats: enough to recognise them, few
enough for one line."""

LONGEST_PREFIX = max(map(len, _OTHER_PROTOCOLS))
"""Bytes after which a connection cannot speak any protocol that is recognised here."""

_TOKEN = re.compile(TOKEN)
_VERSION = re.compile(rb"HTTP/[0-9.]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def shown(data: bytes) -> str:
    """Return ``data`` as printable ASCII in double quotes, shortened for messages."""
    text = data[:_SHOWN].decode("latin-1").encode("unicode_escape").decode("ascii")
    return f'"{text}…"' if len(data) > _SHOWN else f'"{text}"'


def refuse_other_protocols(received: bytes | bytearray) -> None:
    """Raise BadRequest once the first bytes are those of another protocol.

    A peer that speaks one of them never sends the blank line that ends a head, and must
    not wait for a timeout.
    """
    for prefix, sentence in _OTHER_PROTOCOLS.items():
        if received.startswith(prefix):
            REQUEST.refuse(sentence)


def refuse_bare_line_end(kind: Kind, part: str) -> NoReturn:
    """Refuse the ``part`` of the message ("head", "trailer") in which a line does not
    end in CRLF.
    """
    kind.refuse(
        f"The {kind.noun}'s {part} contains a carriage return or a line feed on its own; every line has to end in both "
        "(CRLF)."
    )


def refuse_size(kind: Kind, max_bytes: int) -> NoReturn:
    """Refuse a head that is longer than ``max_bytes``."""
    refuse_as_large(kind, f"The {kind.noun}'s head is larger than {max_bytes} bytes; send fewer or shorter fields.")


def refuse_as_large(kind: Kind, sentence: str) -> NoReturn:
    """Refuse a message for its size, a request with 431 (RFC 6585, section 5)."""
    error = kind.error(sentence)
    if kind is REQUEST:
        error.status = 431
    raise error


def refuse_fields(section: bytes, kind: Kind, part: str, max_fields: int = limits.MAX_HEAD_FIELDS) -> NoReturn:
    """Refuse the field lines ``section`` for their first fault (RFC 9112, section
    5).
    """
    if _BARE_LINE_END.search(section):
        refuse_bare_line_end(kind, part)
    lines = section.split(b"\r\n")[:-2]
    if len(lines) > max_fields:
        sentence = f"The {kind.noun} has {len(lines)} fields, but at most {max_fields} are accepted; send fewer."
        refuse_as_large(kind, sentence)
    for line in lines:
        _check_line(line, kind, part)
    kind.refuse(f"The {kind.noun}'s {part} does not end with an empty line.")


def _check_line(line: bytes, kind: Kind, part: str) -> None:
    """Refuse ``line`` if it is not a field line."""
    where = f"the {kind.noun}'s {part}"
    name, colon, value = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        kind.refuse(f"A line of {where} begins with white space; put each field on one line.")
    if not colon:
        kind.refuse(f"A line of {where} is {shown(line)}; a field needs a name and a colon.")
    if name != name.rstrip(b" \t"):
        kind.refuse(f"There is white space before the colon in {shown(line)}; remove it.")
    if not _TOKEN.fullmatch(name):
        kind.refuse(f"{shown(name)} is not a valid name of a field in {where}.")
    if _CONTROL.search(value):
        kind.refuse(f"The {kind.noun}'s field {shown(name)} contains a control character; remove it.")


def refuse_request_line(head: bytes) -> NoReturn:
    """Refuse a request for the request line that ``head`` begins with."""
    refuse_other_protocols(head)
    REQUEST.refuse(_request_line_fault(head.partition(b"\n")[0].removesuffix(b"\r")))


def _request_line_fault(line: bytes) -> str:
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


def refuse_cut_head(received: bytes | bytearray) -> NoReturn:
    """Refuse a response that ended within its head, of which ``received`` has come."""
    RESPONSE.refuse(
        f"The response ended before the empty line that ends its head; it begins with {shown(_first_line(received))}."
    )


def _first_line(received: bytes | bytearray) -> bytes:
    return bytes(received[:_MAX_FIRST_LINE]).partition(b"\n")[0].removesuffix(b"\r")


def refuse_status_line(head: bytes | bytearray) -> NoReturn:
    """Refuse a response for the status line that ``head`` begins with."""
    RESPONSE.refuse(
        f"The response begins with {shown(_first_line(head))}; it has to begin with HTTP/1.1 or HTTP/1.0, one space "
        "and a status of three digits."
    )
