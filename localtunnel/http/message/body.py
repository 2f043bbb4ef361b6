"""Where a body ends: scanners that are shown the bytes of a message, and move none.

Every scanner has the same interface. ``feed(data)`` takes the next bytes and returns
how many of them belong to the body. ``done``: the end has been seen. ``until_close``:
the body ends with the connection, which only the caller sees. ``is_plain``: only
content and its framing have come, no chunk extension and no trailer field. The next
``unseen`` bytes may pass without ``feed``, and are then reported with ``skip(size)``.
The work is linear in the bytes, however finely they arrive.
"""

import re
from typing import NoReturn

from localtunnel.http.message import refusal
from localtunnel.http.message.fields import parse_fields, plain_name
from localtunnel.http.message.refusal import REQUEST, RESPONSE, Kind, shown
from localtunnel.http.message.spoofable import is_claim

MAX_CHUNK_EXTENSION = 256
"""Bytes of a response chunk's extensions. Hardly any server sends them; the known ones
take up to 100. A request must not have any: readers that skip them up to different line
ends see two requests in the bytes of one."""

MAX_TRAILER = 16 * 1024
"""Bytes of a trailer section, its empty line included: real ones are below 1 KiB."""

_CHUNK_DIGITS = 15
"""Hexadecimal digits of a chunk's size: 2^60 bytes, which no signed 64-bit counter of
an upstream overflows at."""

_SIZE = rb"([0-9A-Fa-f]{1,%d})" % _CHUNK_DIGITS
_EXTENSION = rb"(;[\x21-\x7e\x80-\xff]{0,%d})?" % (MAX_CHUNK_EXTENSION - 1)
"""RFC 9112, section 7.1.1. White space around the semicolon is valid there, but readers
differ on it."""


class _SizeLine:
    """What lines of a chunk's size match, whole and in part."""

    def __init__(self, extension: bytes) -> None:
        self.first = re.compile(rb"%b%b\r\n" % (_SIZE, extension))
        self.first_begun = re.compile(rb"(?:%b%b\r?)?" % (_SIZE, extension))
        self.next = re.compile(rb"\r\n%b%b\r\n" % (_SIZE, extension))
        self.next_begun = re.compile(rb"\r?|\r\n(?:%b%b\r?)?" % (_SIZE, extension))


_SIZE_LINES = {REQUEST: _SizeLine(rb"()"), RESPONSE: _SizeLine(_EXTENSION)}
_MAX_SIZE_LINE = len(b"\r\n") + _CHUNK_DIGITS + MAX_CHUNK_EXTENSION + len(b"\r\n")
_BARE_LINE_END = re.compile(rb"\r(?=[^\n])|(?<!\r)\n")

_NOT_IN_A_TRAILER = frozenset(
    b"""
    authorization connection content-encoding content-length content-range content-type cookie expect host keep-alive
    max-forwards proxy-authenticate proxy-authorization proxy-connection set-cookie te trailer transfer-encoding upgrade
    www-authenticate
    """.split()
)
"""Fields that frame, route or authenticate. A reader that merges the trailer into the
head would take them for fields that this program has checked (RFC 9110, section 6.5.1).
The same goes for claims about who the visitor is."""


class Counted:
    """A body of a known length, of which ``remaining`` bytes have not passed yet."""

    __slots__ = ("done", "remaining")
    is_plain = True
    until_close = False

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = not length

    def feed(self, data: memoryview | bytes) -> int:
        """Return how many bytes of ``data`` belong to the body."""
        size = len(data)
        remaining = self.remaining
        if size < remaining:
            self.remaining = remaining - size
            return size
        self.remaining = 0
        self.done = True
        return remaining

    @property
    def unseen(self) -> int:
        """All of the rest but the last byte, which ends the body."""
        return self.remaining - 1

    def skip(self, size: int) -> None:
        """So many bytes, at most ``unseen``, have passed without being shown."""
        self.remaining -= size


class UntilClose:
    """The body of a response that ends with its connection (RFC 9112, section 6.3)."""

    __slots__ = ()
    is_plain = True
    until_close = True
    done = False
    unseen = 1 << 62
    """Nothing has to be shown to ``feed``."""

    def feed(self, data: memoryview | bytes) -> int:
        """Return how many bytes of ``data`` belong to the body: all of them."""
        return len(data)

    def skip(self, size: int) -> None:
        """So many bytes have passed without being shown."""


class NoBody:
    """The body of a message that has none; ``NO_BODY`` is one for all."""

    __slots__ = ()
    is_plain = True
    until_close = False
    done = True
    unseen = 0
    """Everything that comes has to be shown to ``feed``."""

    def feed(self, data: memoryview | bytes) -> int:
        """Return 0: what follows is not part of the body."""
        return 0

    def skip(self, size: int) -> None:
        """There is nothing to skip."""


NO_BODY = NoBody()
UNTIL_CLOSE = UntilClose()


class Chunked:
    """A chunked body, with its trailer section (RFC 9112, section 7.1).

    ``remaining`` bytes of the present chunk's data have not passed yet.
    """

    __slots__ = (
        "_announced",
        "_begun",
        "_in_trailer",
        "_kind",
        "_line",
        "_line_begun",
        "_lines",
        "done",
        "is_plain",
        "remaining",
    )
    until_close = False

    def __init__(self, kind: Kind) -> None:
        self.done = False
        self.is_plain = True
        self.remaining = 0
        self._announced = 0
        self._kind = kind
        self._lines = lines = _SIZE_LINES[kind]
        self._line = lines.first
        self._line_begun = lines.first_begun
        self._in_trailer = False
        self._begun = bytearray()
        """The beginning of a size line or a trailer section whose end has not come."""

    def feed(self, data: memoryview | bytes, content: list[memoryview | bytes] | None = None) -> int:
        """Return how many bytes of ``data`` are the body's; append content to
        ``content``.

        Raises the error of the message's kind for invalid coding: for a chunk at its
        first wrong byte, for a trailer field when the whole section has come. Nothing
        may be fed after that.
        """
        size = len(data)
        position = 0
        while not self.done:
            left = size - position
            if content is not None and self.remaining and left:
                content.append(data[position : position + self.remaining])
            if self.remaining > left:
                self.remaining -= left
                return size
            position += self.remaining
            self.remaining = 0
            if position == size:
                break
            position = self._read_trailer(data, position) if self._in_trailer else self._read_size(data, position)
        return position

    @property
    def unseen(self) -> int:
        """The rest of the chunk's data."""
        return self.remaining

    def skip(self, size: int) -> None:
        """So many bytes, at most ``unseen``, have passed without being shown."""
        self.remaining -= size

    @property
    def content(self) -> int:
        """Bytes of content that have passed, without sizes, extensions and trailer."""
        return self._announced - self.remaining

    def _read_size(self, data: memoryview | bytes, position: int) -> int:
        """Read the line end after a chunk's data and the next size line, as far as they
        have come.

        Returns the position behind what was read.
        """
        begun = self._begun
        known = len(begun)
        line = None if known else self._line.match(data, position)
        if line is None:
            begun += data[position : position + _MAX_SIZE_LINE - known]
            line = self._line.match(begun)
            if line is None:
                if self._line_begun.fullmatch(begun) is None:
                    self._refuse_size()
                return position + len(begun) - known
            end = position + line.end() - known
        else:
            end = line.end()
        self.remaining = int(line[1], 16)
        self._announced += self.remaining
        if line[2]:
            self.is_plain = False
        self._in_trailer = not self.remaining
        self._line = self._lines.next
        self._line_begun = self._lines.next_begun
        begun.clear()
        return end

    def _refuse_size(self) -> NoReturn:
        begun = bytes(self._begun)
        if self._line is self._lines.next and not (begun + b"\n").startswith(b"\r\n"):
            self._kind.refuse(
                f"A chunk of the {self._kind.noun}'s body has other bytes after its data than a line end (CRLF); its "
                "size is wrong."
            )
        self._kind.refuse(
            f"A chunk of the {self._kind.noun}'s body begins with {shown(begun.lstrip())}; it has to begin with its "
            "size in hexadecimal digits and a line end (CRLF)."
        )

    def _read_trailer(self, data: memoryview | bytes, position: int) -> int:
        """Read the trailer section, usually one empty line; return where it ends."""
        begun = self._begun
        known = len(begun)
        begun += data[position : position + MAX_TRAILER + 1 - known]
        if begun.startswith(b"\r\n"):
            size = len(b"\r\n")
            self.done = True
        else:
            # The end may lie across two feeds; older bytes have been searched before.
            end = begun.find(b"\r\n\r\n", max(known - 3, 0))
            size = end + 4 if end >= 0 else len(begun)
            self.done = end >= 0
        if _BARE_LINE_END.search(begun, max(known - 1, 0), size):
            refusal.refuse_bare_line_end(self._kind, "trailer")
        if size > MAX_TRAILER:
            sentence = f"The {self._kind.noun}'s trailer is larger than {MAX_TRAILER} bytes; send fewer fields."
            refusal.refuse_as_large(self._kind, sentence)
        if self.done:
            self._check_trailer(bytes(begun[:size]))
            begun.clear()
        return position + size - known

    def _check_trailer(self, section: bytes) -> None:
        fields = parse_fields(section, self._kind, "trailer")
        if fields:
            self.is_plain = False
        for name, _, _ in fields:
            if plain_name(name) in _NOT_IN_A_TRAILER or is_claim(name):
                self._kind.refuse(f"The {self._kind.noun}'s trailer carries {shown(name)}, which belongs in the head.")


Body = Counted | Chunked | UntilClose | NoBody
"""Any of the scanners."""
