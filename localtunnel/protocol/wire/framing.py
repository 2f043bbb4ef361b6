"""The protocol header and the frames that follow it, without I/O (PROTOCOL.md,
"Protocol Header" and "Preamble").

A connection begins with seven ASCII bytes, ``LTP/`` and a version. Everything up to the
hand-over to a byte stream is then a sequence of frames: a 4-byte big-endian unsigned
length, and that many bytes of a UTF-8 JSON object.
"""

import re

from localtunnel.errors import FrameError, HeaderError, VersionError
from localtunnel.protocol.limits import MAX_DEPTH, MAX_MESSAGE
from localtunnel.protocol.version import VERSIONS, Version

HEADER_SIZE = 7
LENGTH_SIZE = 4

_VERSION_OF = {version.header: version for version in VERSIONS}
_PREFIX = b"LTP/"
_HEADER = re.compile(rb"LTP/[0-9]\.[0-9]\Z")
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
"""An unterminated string matches up to the end of the payload. If the pattern could
fail there, it would be tried again at every quote, in quadratic time."""


def encode_frame(payload: bytes) -> bytes:
    """Return ``payload`` behind its length. Raises FrameError when it is longer than
    any receiver takes."""
    if len(payload) > MAX_MESSAGE:
        raise FrameError(f"A message of {len(payload)} bytes is over the limit of {MAX_MESSAGE} bytes.")
    return len(payload).to_bytes(LENGTH_SIZE, "big") + payload


class Decoder:
    """Takes bytes in any pieces, and returns the payloads of whole frames.

    ``version`` is that of the peer; without one, a protocol header comes first and
    tells it. ``limit`` bounds a payload and may be changed between frames. After an
    exception the connection is finished: the decoder must not be fed again.
    """

    __slots__ = ("_buffer", "limit", "version")

    def __init__(self, version: Version | None = None, *, limit: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self.limit = limit
        self.version = version

    def feed(self, data: bytes) -> None:
        """Take ``data`` as the next bytes of the stream."""
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """Return the next frame's payload, or None when more bytes are needed.

        Raises HeaderError as soon as the first bytes cannot become a header,
        VersionError for a header of a version that is not spoken here, and FrameError
        for a length over the limit, before any of the payload is awaited.
        """
        if self.version is None and not self._take_header():
            return None
        buffer = self._buffer
        if len(buffer) < LENGTH_SIZE:
            return None
        size = int.from_bytes(buffer[:LENGTH_SIZE], "big")
        if size > self.limit:
            raise FrameError(f"A message of {size} bytes was announced; the limit here is {self.limit} bytes.")
        end = LENGTH_SIZE + size
        if len(buffer) < end:
            return None
        payload = bytes(buffer[LENGTH_SIZE:end])
        del buffer[:end]
        return payload

    @property
    def is_empty(self) -> bool:
        """Whether no byte is held."""
        return not self._buffer

    def take_rest(self) -> bytes:
        """Return the bytes behind the last frame and forget them: a byte stream
        follows."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _take_header(self) -> bool:
        start = bytes(self._buffer[:HEADER_SIZE])
        if not (start.startswith(_PREFIX) if len(start) >= len(_PREFIX) else _PREFIX.startswith(start)):
            raise HeaderError(f"The connection began with {start!r}, which is not the header of LTP.")
        if len(start) < HEADER_SIZE:
            return False
        version = _VERSION_OF.get(start)
        if version is None:
            if _HEADER.match(start):
                spoken = ", ".join(str(each) for each in VERSIONS)
                raise VersionError(f"The peer speaks {start.decode()}; spoken here: {spoken}.")
            raise HeaderError(f"The connection began with {start!r}, which is not the header of LTP.")
        self.version = version
        del self._buffer[:HEADER_SIZE]
        return True


def check_depth(payload: bytes) -> None:
    """Raise FrameError when arrays and objects in ``payload`` nest deeper than
    MAX_DEPTH.

    This runs before the JSON parser, so that a peer cannot exhaust its stack. Most
    payloads have fewer brackets than the limit and cost two counts.
    """
    if payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(payload):
        token = match.group()
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise FrameError(f"The message nests deeper than {MAX_DEPTH} levels.")
        elif token in b"]}":
            depth -= 1
