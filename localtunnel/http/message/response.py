"""The head of an upstream's response, by the same strict rules as a request's.

A response is refused and never repaired. If the server and a visitor's cache saw its
end in two places, it could answer another visitor's request (response splitting), and
the connection to the upstream is used again.
"""

import re

from msgspec import Struct, structs

from localtunnel.errors import UpstreamClosed, UpstreamError, UpstreamInvalid
from localtunnel.http.message import refusal
from localtunnel.http.message.body import NO_BODY, UNTIL_CLOSE, Body, Chunked, Counted
from localtunnel.http.message.collecting import Collector, Repeated
from localtunnel.http.message.fields import Field, parse_fields, values_of
from localtunnel.http.message.framing import (
    NO_OPTIONS,
    WATCHED_FIELDS,
    is_websocket,
    keeps_alive,
    read_length,
    read_options,
)
from localtunnel.http.message.refusal import RESPONSE
from localtunnel.http.message.sharing import CHALLENGE_FIELDS, logs_in
from localtunnel.protocol import limits

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
"""RFC 9112, section 4. The space before an empty reason is a MUST there, but several
servers leave it out, and no reader takes such a line for another. Some servers send a
status from 600 on, which passes."""

_BEGINNING = b"HTTP/1."
_LONGEST_LINE_SHOWN = 80
"""Bytes of a first line that are awaited, to show them if it is not HTTP."""

SWITCHING_PROTOCOLS = 101
"""The one status below FINAL behind which no other head follows."""

FINAL = 200
"""The first status of a final response: those below are interim (RFC 9110, section
15.2)."""

_WATCHED = WATCHED_FIELDS | CHALLENGE_FIELDS
_NOT_MODIFIED = 304
_WITHOUT_BODY = frozenset({204, _NOT_MODIFIED})

_NOTHING: frozenset[bytes] = frozenset()
_LENGTH = frozenset({b"content-length"})
_CODING = frozenset({b"transfer-encoding", b"trailer"})


class ResponseHead(Struct, frozen=True, gc=False):
    """What the edge knows of one response."""

    status: int
    """100 to 999. Below 200 it is interim: another head follows, but for 101 (RFC 9110,
    section 15.2)."""
    reason: bytes
    version: tuple[int, int]
    """(1, 0) or (1, 1)."""
    size: int
    """Bytes up to and including the blank line: the body begins there."""
    fields: list[Field] = []
    """Every field in the order of the head, except those that frame a body which this
    response cannot have."""
    length: int | None = None
    """The Content-Length; None without one. The answer to HEAD and a 304 may carry one
    and have no body."""
    chunked: bool = False
    options: frozenset[bytes] = NO_OPTIONS
    """The options of the Connection fields, in lower case."""
    keep_alive: bool = True
    """Whether the upstream would take another request on this connection, if the body's
    end can be seen."""
    upgrade: bool = False
    """Whether this is the 101 that turns the connection into a WebSocket."""
    logs_in: bool = False
    """Whether it asks for a login of its connection, or is a step of it."""

    def slimmed(self) -> "ResponseHead":
        """Return what is still needed of a large head once it has gone out."""
        return structs.replace(self, reason=b"", fields=[], options=NO_OPTIONS)

    def body(self, method: str) -> Body:
        """Return a fresh scanner for the body of this answer to ``method`` (RFC 9112,
        section 6.3).

        It raises UpstreamInvalid. After a 101 the other protocol follows, and no body.
        """
        if method == "HEAD" or self.status < FINAL or self.status in _WITHOUT_BODY:
            return NO_BODY
        if self.chunked:
            return Chunked(RESPONSE)
        if self.length is None:
            return UNTIL_CLOSE
        return Counted(self.length) if self.length else NO_BODY


class ResponseReader(Collector):
    """Collects the bytes of one connection until the response's head is whole, or
    refuses them.

    A new one takes the ``rest`` of this one for the head that follows an interim
    response.
    """

    def __init__(self, max_bytes: int = limits.MAX_HEAD_BYTES) -> None:
        super().__init__(RESPONSE, max_bytes)
        self._is_http = False

    def feed(self, data: bytes | memoryview) -> ResponseHead | None:
        """Take ``data``; return the head once it is whole, None while more is needed.

        Raises ``errors.UpstreamInvalid`` for what is not HTTP/1.x or is too large.
        """
        head = self.collect(data)
        if head is not None:
            return parse_response(head)
        if not self._is_http:
            self._look_at_the_beginning()
        return None

    def cut_short(self) -> UpstreamError:
        """Return the error for a connection that has ended here."""
        if not self.received:
            return UpstreamClosed()
        try:
            if not self.received.startswith(_BEGINNING[: len(self.received)]):
                refusal.refuse_status_line(self.received)
            refusal.refuse_cut_head(self.received)
        except UpstreamInvalid as error:
            return error

    def _look_at_the_beginning(self) -> None:
        """Refuse another protocol at its first line: a server that speaks one waits for
        us then, and never sends an empty line.
        """
        received = self.received
        if len(received) <= _LONGEST_LINE_SHOWN and b"\n" not in received:
            return
        self._is_http = received.startswith(_BEGINNING)
        if not self._is_http:
            refusal.refuse_status_line(received)


def read_response(
    buffer: bytes | bytearray, start: int, end: int, max_bytes: int = limits.MAX_HEAD_BYTES
) -> ResponseHead | None:
    """Parse the head that begins at ``start`` of the ``end`` bytes received in
    ``buffer``, in one step.

    Returns None if it is not whole: a ResponseReader then takes ``buffer[start:end]``
    and what follows. Raises as ``ResponseReader.feed`` does.
    """
    blank = buffer.find(b"\r\n\r\n", start, end)
    if blank < 0:
        return None
    if blank + 4 - start > max_bytes:
        refusal.refuse_size(RESPONSE, max_bytes)
    return _repeated.read(bytes(buffer[start : blank + 4]))


def parse_response(head: bytes) -> ResponseHead:
    """Parse a whole head, ``head`` being its bytes up to and including the blank line.

    Raises ``errors.UpstreamInvalid``.
    """
    line = _STATUS_LINE.match(head)
    if line is None:
        refusal.refuse_status_line(head)
    minor, digits, reason = line.groups(b"")
    version = (1, 1) if minor == b"1" else (1, 0)
    status = int(digits)
    fields = parse_fields(head[line.end() :], RESPONSE)
    found = values_of(fields, _WATCHED)
    options = read_options(found.get(b"connection"), RESPONSE)
    keep_alive = keeps_alive(options, version)
    dropped = _misplaced(status, found)
    if dropped:
        # Readers differ on where such a message ends: the connection serves no other.
        keep_alive = False
        fields = [field for field in fields if field[0] not in dropped]
        found = {name: values for name, values in found.items() if name not in dropped}
    length, chunked = read_length(found, version, RESPONSE)
    return ResponseHead(
        status,
        reason,
        version,
        len(head),
        fields,
        length,
        chunked,
        options,
        keep_alive,
        status == SWITCHING_PROTOCOLS and is_websocket(found, options),
        logs_in(found, CHALLENGE_FIELDS),
    )


def _misplaced(status: int, found: dict[bytes, list[bytes]]) -> frozenset[bytes]:
    """Return the fields that frame a body, in a response that never has one (RFC 9112,
    6.3).

    Several servers send them. A length belongs on a 304, where it is that of a 200.
    """
    if status >= FINAL and status not in _WITHOUT_BODY:
        return _NOTHING
    if b"transfer-encoding" in found:
        return _LENGTH | _CODING
    return _NOTHING if status == _NOT_MODIFIED or b"content-length" not in found else _LENGTH


_repeated = Repeated(parse_response)
