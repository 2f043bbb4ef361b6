"""What an upstream says to one request: heads, of which the last but one may be interim, and a body up to its end."""

from localtunnel.http.body import Body
from localtunnel.http.response import ResponseHead, ResponseReader, read_response
from localtunnel.net.pump import buffer


class Answer:
    """Finds the heads and the end in the bytes of one connection, which are shown to it as they come.

    Its methods raise UpstreamInvalid for what is not HTTP/1.x as RFC 9112 has it.
    """

    __slots__ = ("_reader", "body", "has_begun", "head", "is_clean")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        """The final head, once it has come and is on its way to the visitor."""
        self.body: Body | None = None
        self.is_clean = False
        """Whether the body ended with the last byte that had come: what stands behind it belongs to nobody."""
        self.has_begun = False
        """Whether any of it has come."""
        self._reader: ResponseReader | None = None

    def next_head(self, data: bytes | memoryview) -> tuple[ResponseHead, bytes | memoryview] | None:
        """Return the next head and what has come behind it, or None while more is needed. There is no final one yet."""
        self.has_begun = True
        reader = self._reader
        if reader is None:
            if isinstance(data, memoryview) and data.obj is buffer:
                head = read_response(buffer, 0, len(data))
                if head is not None:
                    return head, data[head.size :]
            reader = self._reader = ResponseReader()
        head = reader.feed(data)
        if head is None:
            return None
        self._reader = ResponseReader()
        return head, reader.rest

    def scan(self, body: Body, data: bytes | memoryview) -> bytes | memoryview:
        """Return what of ``data`` belongs to ``body``: all of it up to the body's end."""
        used = body.feed(data)
        if not body.done:
            return data
        self.is_clean = used == len(data)
        return data[:used]

    @property
    def is_reusable(self) -> bool:
        """Whether its connection may carry another exchange, now that all of it has come."""
        return self.is_clean and self.head is not None and self.head.keep_alive
