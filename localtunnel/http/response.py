"""The head of an upstream's response, by the same strict rules as a request's: refused, and never repaired.

A response whose end the server and a visitor's cache see in two places can be made to answer somebody else's request
(response splitting), all the more since the connection to the upstream is used again.
"""

import re

from msgspec import Struct

from localtunnel.http import refusal
from localtunnel.http.body import NO_BODY, UNTIL_CLOSE, Body, Chunked, Counted
from localtunnel.http.collecting import Collector, Repeated
from localtunnel.http.fields import Field, parse_fields, values_of
from localtunnel.http.framing import FRAMING, NO_OPTIONS, is_websocket, keeps_alive, read_length, read_options
from localtunnel.http.refusal import RESPONSE
from localtunnel.protocol import limits

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
"""RFC 9112, section 4. The space before an empty reason is a MUST there, but several servers leave it out, and nobody
reads such a line in another way. A status from 600 on is sent by some as well, and passes."""

_OK = 200
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = frozenset({204, 304})


class ResponseHead(Struct, frozen=True, gc=False):
    """What the edge knows of one response."""

    status: int
    """100 to 999. Below 200 it is interim: another head follows, but for 101 (RFC 9110, section 15.2)."""
    reason: bytes
    version: tuple[int, int]
    """(1, 0) or (1, 1)."""
    size: int
    """Bytes up to and including the blank line: the body begins there."""
    fields: list[Field] = []
    """Every field, in the order of the head."""
    length: int | None = None
    """The Content-Length; None without one. The answer to HEAD and a 304 carry one and have no body."""
    chunked: bool = False
    options: frozenset[bytes] = NO_OPTIONS
    """The options of the Connection fields, in lower case."""
    keep_alive: bool = True
    """Whether the upstream would take another request on this connection, if the body's end can be seen."""
    upgrade: bool = False
    """Whether this is the 101 that turns the connection into a WebSocket."""

    def body(self, method: str) -> Body:
        """Return a fresh scanner for the body of this answer to ``method`` (RFC 9112, section 6.3).

        It raises ``errors.UpstreamInvalid``. After a 101, what follows is no body, but the other protocol.
        """
        if method == "HEAD" or self.status < _OK or self.status in _WITHOUT_BODY:
            return NO_BODY
        if self.chunked:
            return Chunked(RESPONSE)
        if self.length is None:
            return UNTIL_CLOSE
        return Counted(self.length) if self.length else NO_BODY


class ResponseReader(Collector):
    """Collects the bytes of one connection until the response's head is whole, or refuses them.

    A new one takes the ``rest`` of this one for the head that follows an interim response.
    """

    def __init__(self, max_bytes: int = limits.MAX_HEAD_BYTES) -> None:
        super().__init__(RESPONSE, max_bytes)

    def feed(self, data: bytes | memoryview) -> ResponseHead | None:
        """Take ``data``; return the head once it is whole, None while more is needed.

        Raises ``errors.UpstreamInvalid`` for what is not HTTP/1.x or is too large.
        """
        head = self.collect(data)
        return None if head is None else parse_response(head)


def read_response(
    buffer: bytearray, start: int, end: int, max_bytes: int = limits.MAX_HEAD_BYTES
) -> ResponseHead | None:
    """Parse the head that begins at ``start`` of the ``end`` bytes received in ``buffer``, in one step.

    Returns None if it is not whole: a ResponseReader then takes ``buffer[start:end]`` and what follows. Raises as
    ``ResponseReader.feed`` does.
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
    found = values_of(fields, FRAMING)
    length, chunked = read_length(found, version, RESPONSE)
    if chunked and (status < _OK or status == 204):
        RESPONSE.refuse(f"The response has the status {status} and a Transfer-Encoding, which it must not have.")
    options = read_options(found.get(b"connection"))
    return ResponseHead(
        status,
        reason,
        version,
        len(head),
        fields,
        length,
        chunked,
        options,
        keeps_alive(options, version),
        status == _SWITCHING_PROTOCOLS and is_websocket(found, options),
    )


_repeated = Repeated(parse_response)
