"""What is said in one exchange: where request and response end, and what of them goes on in which form.

It is shown the bytes and moves none of them, knows neither of the two connections, and
waits for nothing: that is ``exchange``'s part.
"""

from collections.abc import Callable
from http import HTTPStatus

from localtunnel.http.forwarding import forward
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.message.answer import Answer
from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import ResponseHead
from localtunnel.http.options.rules import Rules

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again when a connection fails before the answer (RFC 9110, 9.2.2)."""

MAX_HELD_HEAD = 8 * 1024
"""Bytes of a request that are held until it is answered, so that it can be sent again. A larger one is dropped as soon
as it has gone out; it goes on fresh connections only, and is not repeated."""

SLIM_HEAD = 1024
"""Bytes of a head that is cheaper to hold than to make smaller, once it has gone out for good."""


class Conversation:
    """One request, ``rest`` being what has come behind its head, and the answer to it.

    ``used`` bytes of ``rest`` belong to the request. Raises BadRequest for what is no body.
    """

    __slots__ = ("_forwarding", "_rules", "answer", "body", "close", "head_size", "request", "switched", "used")

    def __init__(self, request: RequestHead, forwarding: Forwarding, rules: Rules | None, rest: memoryview) -> None:
        self._forwarding = forwarding
        self._rules = rules
        self.answer = Answer()
        self.body = request.body()
        """Where the request ends."""
        self.close = not request.keep_alive
        """Whether the visitor's connection ends with this exchange."""
        self.head_size = 0
        """Bytes of the rewritten head."""
        self.request = request
        self.switched: bytes | None = None
        """What has come of another protocol behind a 101, once that has come."""
        self.used = self.body.feed(rest)

    def first(self, rest: memoryview) -> bytes:
        """Return the request as it goes out, with what of ``rest`` belongs to it; called once."""
        head = forward.request_head(self.request, self._forwarding, self._rules)
        self.head_size = len(head)
        if self.request.size > MAX_HELD_HEAD:
            self.request = self.request.slimmed()
        return head + rest[: self.used] if self.used else head

    def is_repeatable(self, size: int) -> bool:
        """Say whether the request, ``size`` bytes as it goes out, may be sent again: it has come whole, and is held."""
        request = self.request
        return size <= MAX_HELD_HEAD and self.body.done and request.method in REPEATABLE and not request.upgrade

    def slim(self) -> None:
        """Hold no more of the head than the answer depends on: it has gone out for good."""
        if self.request.size > SLIM_HEAD:
            self.request = self.request.slimmed()

    def heads(self, data: memoryview, buffer: bytearray, timing: Callable[[], bytes]) -> bytes:
        """Return what goes on to the visitor of what the upstream says up to the end of its head, and what is behind.

        ``data`` is read in place where it stands at the beginning of ``buffer``.
        Afterwards ``answer.body`` tells that the final head has come, or ``switched`` that the protocol has changed.
        ``timing()`` returns the fields that tell how long the parts took. Raises UpstreamInvalid.
        """
        answer = self.answer
        out = b""
        found = answer.next_head(data, buffer)
        while found is not None:
            head, rest = found
            if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                out += self._rewritten(head, timing, close=False)
                self.switched = bytes(rest)
                return out
            if head.status >= HTTPStatus.OK:
                return out + self._final(head, rest, timing)
            if self.request.version == (1, 1):
                out += self._rewritten(head, timing, close=False)
            found = answer.next_head(bytes(rest))
        return out

    def _final(self, head: ResponseHead, rest: bytes | memoryview, timing: Callable[[], bytes]) -> bytes:
        answer, body = self.answer, head.body(self.request.method)
        answer.unchunks = head.chunked and not body.done and self.request.version == (1, 0)
        self.close = self.close or body.until_close or answer.unchunks or not self.body.done
        out = self._rewritten(head, timing, close=self.close) + answer.scan(body, rest)
        # Up to here the visitor has got nothing of it, and can be told what is wrong with it.
        answer.head, answer.body = head if head.size <= SLIM_HEAD else head.slimmed(), body
        return out

    def _rewritten(self, head: ResponseHead, timing: Callable[[], bytes], *, close: bool) -> bytes:
        rules = self._rules
        extra = timing() if rules is not None and rules.server_timing else b""
        return forward.response_head(head, self.request, self._forwarding, rules, close=close, extra=extra)
