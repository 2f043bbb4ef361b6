"""Which exchanges pass on a connection that speaks HTTP/1.x, seen from beside it.

An observer is shown the bytes of both directions. It moves, holds and changes none of
them, so that nothing waits for it; it keeps only heads that come in pieces. Once the
bytes are not HTTP, it looks at no more of the connection.

What it says of the connection can be depended on: ``is_at_rest`` decides whether a
request that follows is handed on (``net.flow.tapped``), so in doubt it has to be false.
"""

from collections import deque
from functools import partial
from typing import Generic, TypeVar

from localtunnel.errors import UpstreamClosed, UpstreamInvalid, VisitorError
from localtunnel.http.exchange import Exchange
from localtunnel.http.message.answer import MAX_INTERIM
from localtunnel.http.message.body import UNTIL_CLOSE, Body, Chunked, Counted
from localtunnel.http.message.collecting import MAX_REPEATED, Repeated
from localtunnel.http.message.request import HeadReader, RequestHead, parse_head, read_head
from localtunnel.http.message.response import (
    FINAL,
    SWITCHING_PROTOCOLS,
    ResponseHead,
    ResponseReader,
    read_response,
)
from localtunnel.protocol import limits

MAX_HEAD = 2 * limits.MAX_HEAD_BYTES
"""Bytes of a head: one that the server admits may grow by the fields that it adds."""

MAX_FIELDS = 2 * limits.MAX_HEAD_FIELDS
"""Fields of a request's head, for the same reason. Otherwise a request with as many
fields as the server takes would be lost, with all that follow it on the connection."""

MAX_WAITING = 64
"""Requests that may be ahead of their answers. The server has one at a time, and
browsers do not pipeline; a flood of more would have them all remembered."""

_repeated = Repeated(partial(parse_head, max_fields=MAX_FIELDS))
_recall = _repeated.recall


Seen = TypeVar("Seen", bound=Exchange)


class Observer(Generic[Seen]):
    """Finds the exchanges of one connection in its bytes.

    The owner shows it what passes in either direction, and calls ``close`` at the end
    of the connection. A subclass makes the exchanges, and is told of each: ``finished``
    comes once for each that has ``begun``, in the order of the requests.
    """

    __slots__ = (
        "_answer_body",
        "_answer_reader",
        "_answering",
        "_request_body",
        "_request_reader",
        "_requesting",
        "_waiting",
        "is_lost",
    )

    def __init__(self) -> None:
        self._waiting: deque[Seen] = deque()
        """Exchanges whose answer is not complete, oldest first."""
        self.is_lost = False
        """Whether no more requests can be seen, because something was not HTTP."""
        self._request_reader: HeadReader | None = None
        self._request_body: Body | None = None
        self._requesting: Seen | None = None
        """The exchange whose body the visitor is sending, if any."""
        self._answer_reader: ResponseReader | None = None
        self._answer_body: Body | None = None
        self._answering: Seen | None = None

    @property
    def is_owed(self) -> bool:
        """Whether an answer has not ended."""
        return bool(self._waiting)

    @property
    def is_at_rest(self) -> bool:
        """Whether all that has passed are whole requests with whole answers."""
        is_asking = self._request_body is not None or self._request_reader is not None
        return not (self._waiting or is_asking or self.is_lost)

    # What a subclass is told.

    def begun(self, request: RequestHead) -> Seen:
        """Return the exchange for a request whose head has come."""
        raise NotImplementedError

    def answered(self, exchange: Seen) -> None:
        """The final head has come, and the end of the body has not."""

    def finished(self, exchange: Seen) -> None:
        """The answer is complete, or never will be, as ``exchange.error`` says."""

    def lost(self) -> None:
        """What passes is not HTTP. Called once."""

    # What the visitor sends.

    def feed_request(self, data: bytes | memoryview) -> None:
        """Look at the next bytes of the visitor."""
        received = b""
        position, size = 0, len(data)
        if self._request_body is None and size <= MAX_REPEATED and self._request_reader is None:
            # Most requests of programs: a known head, and nothing else.
            received = bytes(data)
            head = _recall(received)
            if head is not None:
                self._begin(head)
                return
        try:
            while position < size:
                if self._request_body is not None:
                    position += self._feed_request_body(self._request_body, data[position:] if position else data)
                    continue
                # Once for each call, so that the work is linear however many heads
                # there are.
                received = received or bytes(data)
                head, position = self._read_request(received, position)
                if head is not None:
                    self._begin(head)
        except VisitorError:
            self._lose_requests()

    def unseen_of_request(self) -> int:
        """Return how many of the visitor's next bytes need not be shown."""
        return 0 if self._request_body is None else self._request_body.unseen

    def skip_request(self, size: int) -> None:
        """Count ``size`` bytes, at most ``unseen_of_request``, that passed unseen."""
        body = self._request_body
        if body is not None:
            body.skip(size)
            self._count_received(body, size)

    def _feed_request_body(self, body: Body, data: bytes | memoryview) -> int:
        used = 0
        try:
            used = body.feed(data)
        finally:
            # Before an invalid chunk, other bytes may have passed.
            self._count_received(body, used)
        if body.done:
            self._request_body = self._requesting = None
        return used

    def _count_received(self, body: Body, size: int) -> None:
        exchange = self._requesting
        if exchange is not None:
            exchange.received = body.content if isinstance(body, Chunked) else exchange.received + size

    def _read_request(self, received: bytes, position: int) -> tuple[RequestHead | None, int]:
        """Return the head at ``position`` if it is whole, and where to go on."""
        reader = self._request_reader
        if reader is None:
            head = read_head(received, position, len(received), MAX_HEAD, _repeated)
            if head is not None:
                return head, position + head.size
            reader = self._request_reader = HeadReader(MAX_HEAD, MAX_FIELDS)
        head = reader.feed(received[position:] if position else received)
        if head is None:
            return None, len(received)
        self._request_reader = None
        return head, len(received) - len(reader.rest)

    def _begin(self, head: RequestHead) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lose_requests()
            return
        exchange = self.begun(head)
        self._waiting.append(exchange)
        if head.length or head.chunked:
            self._request_body, self._requesting = head.body(), exchange
        elif head.upgrade:
            # The answer decides whether what follows is of another protocol.
            self._request_body, self._requesting = UNTIL_CLOSE, exchange

    def _lose_requests(self) -> None:
        """See no more requests; those before may still be answered."""
        self._request_reader = self._requesting = None
        self._request_body = UNTIL_CLOSE
        if not self.is_lost:
            self.is_lost = True
            self.lost()

    # What the upstream sends.

    def feed_answer(self, data: bytes | memoryview) -> None:
        """Look at the next bytes of the upstream."""
        received = b""
        position, size = 0, len(data)
        try:
            while position < size:
                if self._answer_body is not None:
                    position += self._feed_answer_body(self._answer_body, data[position:] if position else data)
                    continue
                if not self._waiting:
                    self._lose_answers()
                    return
                received = received or bytes(data)
                head, position = self._read_answer(received, position)
                if head is not None:
                    position += self._answer(head, data, position)
        except VisitorError:
            self._lose_answers()

    def unseen_of_answer(self) -> int:
        """Return how many of the upstream's next bytes need not be shown."""
        return 0 if self._answer_body is None else self._answer_body.unseen

    def skip_answer(self, size: int) -> None:
        """Count ``size`` bytes, at most ``unseen_of_answer``, that passed unseen."""
        body = self._answer_body
        if body is not None:
            body.skip(size)
            self._count_sent(body, size)

    def _feed_answer_body(self, body: Body, data: bytes | memoryview) -> int:
        used = 0
        try:
            used = body.feed(data)
        finally:
            self._count_sent(body, used)
        if body.done:
            self._end_answer()
        return used

    def _count_sent(self, body: Body, size: int) -> None:
        exchange = self._answering
        if exchange is not None:
            exchange.sent = body.content if isinstance(body, Chunked) else exchange.sent + size

    def _read_answer(self, received: bytes, position: int) -> tuple[ResponseHead | None, int]:
        reader = self._answer_reader
        if reader is None:
            head = read_response(received, position, len(received), MAX_HEAD)
            if head is not None:
                return head, position + head.size
            reader = self._answer_reader = ResponseReader(MAX_HEAD)
        head = reader.feed(received[position:] if position else received)
        if head is None:
            return None, len(received)
        self._answer_reader = None
        return head, len(received) - len(reader.rest)

    def _answer(self, head: ResponseHead, data: bytes | memoryview, position: int) -> int:
        """Take a response's head; return how many bytes of its body have come."""
        exchange = self._waiting[0]
        if head.status < FINAL and head.status != SWITCHING_PROTOCOLS:
            exchange.interim += 1
            if exchange.interim > MAX_INTERIM:
                raise UpstreamInvalid("The upstream answers with interim responses only.")
            return 0
        exchange.response = head
        self._answering = exchange
        if head.status == SWITCHING_PROTOCOLS:
            self._request_reader = None
            self._request_body = self._answer_body = UNTIL_CLOSE
            self._requesting = exchange
            self.answered(exchange)
            return 0
        if exchange is self._requesting and exchange.request.upgrade:
            self._refuse_upgrade(exchange)
        body = head.body(exchange.request.method)
        if body.done:
            self._end_answer()
            return 0
        come = len(data) - position
        if isinstance(body, Counted) and body.remaining <= come:
            # Most answers have come whole.
            exchange.sent = body.remaining
            self._end_answer()
            return exchange.sent
        self._answer_body = body
        used = self._feed_answer_body(body, data[position:]) if come else 0
        if not body.done:
            self.answered(exchange)
        return used

    def _refuse_upgrade(self, exchange: Exchange) -> None:
        """Go on after a refused upgrade; bytes that came may be of either protocol."""
        self._request_body = self._requesting = None
        if exchange.received:
            exchange.received = 0
            self._lose_requests()

    def _end_answer(self) -> None:
        exchange = self._waiting.popleft()
        self._answer_body = self._answering = None
        self.finished(exchange)

    def _lose_answers(self) -> None:
        self._answer_reader = self._answering = None
        self._answer_body = UNTIL_CLOSE
        self._end_all(UpstreamInvalid.code)
        self._lose_requests()

    # Ends.

    def end_answers(self) -> None:
        """The upstream has said everything."""
        answering = self._answering
        if answering is not None:
            if answering.switched:
                return
            if self._answer_body is UNTIL_CLOSE:
                self._end_answer()
        self._end_all(UpstreamClosed.code)

    def close(self, error: str | None = None) -> None:
        """End the connection; ``error`` is the code of the reason for cutting
        answers.
        """
        if error is None:
            # Another protocol ends with its connection.
            if self._answering is not None and self._answering.switched:
                self._end_answer()
            error = UpstreamClosed.code
        self._end_all(error)

    def _end_all(self, error: str | None) -> None:
        while self._waiting:
            exchange = self._waiting.popleft()
            exchange.error = error
            self.finished(exchange)
