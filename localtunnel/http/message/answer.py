"""An upstream's answer to one request: interim heads, the final head, and a body."""

from localtunnel.errors import UpstreamClosed, UpstreamError
from localtunnel.http.message.body import Body, Chunked
from localtunnel.http.message.refusal import RESPONSE
from localtunnel.http.message.response import FINAL, ResponseHead, ResponseReader, read_response

MAX_INTERIM = 16
"""Interim responses before the final one. Real servers send one or two. Each costs as
much as an answer: without a limit, one connection that sent nothing else took a whole
core."""


class Answer:
    """Finds the heads and the end of an answer in the bytes of its connection.

    Its methods raise UpstreamInvalid for anything but HTTP/1.x (RFC 9112).
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
        """The final head, once it has come."""
        self.body: Body | None = None
        self.is_clean = False
        """Whether no byte came behind the end of the body."""
        self.unchunks = False
        """Whether only the content of a chunked body goes on, without the chunks."""
        self.has_begun = False
        """Whether any of it has come."""
        self.interim = 0
        """How many heads have come before the final one."""
        self.is_early = False
        """Whether the answer began before all of the request had been sent."""
        self._reader: ResponseReader | None = None
        self._keeps_alive = True
        """Whether every head so far lets the connection stay."""

    def next_head(
        self, data: bytes | memoryview, buffer: bytearray | None = None
    ) -> tuple[ResponseHead, bytes | memoryview] | None:
        """Return the next head and the bytes behind it, or None while more is needed.

        It is not called after the final head. A view that begins where ``buffer`` does
        is read without a copy.
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
        self._reader = None
        return head, reader.rest

    def cut_short(self) -> UpstreamError:
        """Return the error for a connection that has ended before the final head."""
        return UpstreamClosed() if self._reader is None else self._reader.cut_short()

    def _note(self, head: ResponseHead) -> None:
        self._keeps_alive = self._keeps_alive and head.keep_alive
        if head.status < FINAL:
            self.interim += 1
            if self.interim > MAX_INTERIM:
                RESPONSE.refuse(
                    f"More than {MAX_INTERIM} interim responses (with a status below 200) came before the final one."
                )

    def scan(self, body: Body, data: bytes | memoryview) -> bytes | memoryview:
        """Return what goes on of ``data``, up to the end of ``body``."""
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
        """Whether the connection may carry another exchange after this whole answer."""
        return self.is_clean and self._keeps_alive and self.head is not None
