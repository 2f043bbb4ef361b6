"""What an upstream says to one request: heads, of which the last but one may be interim, and a body up to its end."""

from localtunnel.errors import UpstreamClosed, UpstreamError
from localtunnel.http.message.body import Body, Chunked
from localtunnel.http.message.refusal import RESPONSE
from localtunnel.http.message.response import ResponseHead, ResponseReader, read_response

MAX_INTERIM = 16
"""Interim responses before the final one. Real servers send one or two; each costs as much as an answer, and without a
limit one connection that sent nothing else took a whole core."""

_OK = 200


class Answer:
    """Finds the heads and the end in the bytes of one connection, which are shown to it as they come.

    Its methods raise UpstreamInvalid for what is not HTTP/1.x as RFC 9112 has it.
    """

    __slots__ = (
        "_keeps_alive",
        "_reader",
        "body",
        "has_begun",
        "head",
        "interim",
        "is_clean",
        "is_early",
        "unchunks",
    )

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        """The final head, once it has come and is on its way to the visitor."""
        self.body: Body | None = None
        self.is_clean = False
        """Whether the body ended with the last byte that had come: what stands behind it belongs to nobody."""
        self.unchunks = False
        """Whether the chunks are to be taken out of a chunked body."""
        self.has_begun = False
        """Whether any of it has come."""
        self.interim = 0
        """Heads that have come before the final one."""
        self.is_early = False
        """Whether it began before all of the request had been sent: it is hardly an answer to that, then."""
        self._reader: ResponseReader | None = None
        self._keeps_alive = True
        """Whether every head so far lets the connection go on."""

    def next_head(
        self, data: bytes | memoryview, buffer: bytearray | None = None
    ) -> tuple[ResponseHead, bytes | memoryview] | None:
        """Return the next head and what has come behind it, or None while more is needed. There is no final one yet.

        A view that begins where ``buffer`` does is read without a copy.
        """
        self.has_begun = True
        reader = self._reader
        if reader is None:
            if buffer is not None and isinstance(data, memoryview) and data.obj is buffer:
                head = read_response(buffer, 0, len(data))
                if head is not None:
                    self._note(head)
                    return head, data[head.size :]
            reader = self._reader = ResponseReader()
        head = reader.feed(data)
        if head is None:
            return None
        self._note(head)
        self._reader = ResponseReader()
        return head, reader.rest

    def cut_short(self) -> UpstreamError:
        """Return what it means that the connection has ended, where the final head has not come."""
        return UpstreamClosed() if self._reader is None else self._reader.cut_short()

    def _note(self, head: ResponseHead) -> None:
        self._keeps_alive = self._keeps_alive and head.keep_alive
        if head.status < _OK:
            self.interim += 1
            if self.interim > MAX_INTERIM:
                RESPONSE.refuse(
                    f"More than {MAX_INTERIM} interim responses (with a status below 200) came before the final one."
                )

    def scan(self, body: Body, data: bytes | memoryview) -> bytes | memoryview:
        """Return what of ``data`` goes on: all of it up to the end of ``body``, or what the chunks hold of it."""
        if self.unchunks and isinstance(body, Chunked):
            content: list[memoryview | bytes] = []
            used = body.feed(data, content)
            passed: bytes | memoryview = b"".join(content)
        else:
            used = body.feed(data)
            passed = data[:used] if body.done else data
        if body.done:
            self.is_clean = used == len(data)
        return passed

    @property
    def is_reusable(self) -> bool:
        """Whether its connection may carry another exchange, now that all of it has come."""
        return self.is_clean and self._keeps_alive and self.head is not None
