"""One request and its answer: where both end, what of them goes on, and what may be
used again.

This is the part of an exchange that needs no connection. It is shown the bytes as they
come from either side and returns what goes on to the other;
``server.visitors.exchange`` moves them, and acts on what is found here.
"""

from collections.abc import Callable

from localtunnel.http import lending
from localtunnel.http.forwarding import forward
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.lending import Fate
from localtunnel.http.message.answer import Answer
from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import FINAL, SWITCHING_PROTOCOLS, ResponseHead
from localtunnel.http.options.rules import Rules

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent again when a connection fails before the answer (RFC 9110,
section 9.2.2)."""

MAX_HELD_HEAD = 8 * 1024
"""Bytes of a request that are held until it is answered, so that it can be sent again.
A larger one is dropped as soon as it has gone out: it uses fresh connections only, and
is not repeated."""

SLIM_HEAD = 1024
"""Bytes of a head that is cheaper to hold than to make smaller, once it has gone out
for good."""


class Conversation:
    """One request, of which ``rest`` has come behind the head, and the answer to it.

    ``used`` bytes of ``rest`` belong to the request. Raises BadRequest where ``rest``
    is not a valid body.
    """

    __slots__ = (
        "_forwarding",
        "_rules",
        "answer",
        "body",
        "close",
        "first",
        "head_size",
        "is_held",
        "is_repeatable",
        "request",
        "switched",
        "used",
    )

    def __init__(self, request: RequestHead, forwarding: Forwarding, rules: Rules | None, rest: memoryview) -> None:
        self._forwarding = forwarding
        self._rules = rules
        self.answer = Answer()
        self.body = request.body()
        """Where the request ends."""
        self.used = self.body.feed(rest) if rest else 0
        self.close = not request.keep_alive
        """Whether the visitor's connection ends with this exchange."""
        self.switched: bytes | None = None
        """Bytes of another protocol behind a 101; None without a 101."""
        head = forward.request_head(request, forwarding, rules)
        self.head_size = len(head)
        """Bytes of the rewritten head."""
        self.first = head + rest[: self.used] if self.used else head
        """The request as it goes out, as far as it has come; the holder drops it."""
        self.is_held = len(self.first) <= MAX_HELD_HEAD and self.body.done and not request.upgrade
        """Whether the request can be sent again: it has come whole, and is held."""
        self.is_repeatable = self.is_held and request.method in REPEATABLE
        """Whether it may be sent again whatever has become of it: it asks for the same
        each time."""
        self.request = request.slimmed() if request.size > MAX_HELD_HEAD else request

    def slim(self) -> None:
        """Hold no more of the request's head than the answer depends on: it has gone
        out for good.
        """
        if self.request.size > SLIM_HEAD:
            self.request = self.request.slimmed()

    def from_visitor(self, data: memoryview) -> int:
        """Return how many bytes of ``data`` belong to the request, and not to the next.

        Raises BadRequest.
        """
        return 0 if self.body.done else self.body.feed(data)

    def from_upstream(
        self, data: memoryview, buffer: bytearray, *, sent: bool, timing: Callable[[], bytes]
    ) -> bytes | memoryview:
        """Return what the visitor gets of ``data``, the next bytes of the upstream.

        Afterwards ``answer.body`` is set once the final head has come, and its ``done``
        once the answer has ended; ``switched`` is set when the protocol has changed.
        ``data`` is read in place where it lies at the beginning of ``buffer``.
        ``sent``: everything so far has gone out to the upstream. ``timing()`` returns
        the fields that tell how long each part took. Raises UpstreamInvalid.
        """
        answer = self.answer
        if answer.body is not None:
            return answer.scan(answer.body, data)
        if not answer.has_begun:
            answer.is_early = not (sent and self.body.done)
        out = b""
        found = answer.next_head(data, buffer)
        while found is not None:
            head, rest = found
            if head.status >= FINAL:
                return out + self._final(head, rest, timing)
            if head.status == SWITCHING_PROTOCOLS:
                out += self._rewritten(head, timing, close=False)
                self.switched = bytes(rest)
                return out
            if self.request.version == (1, 1):
                out += self._rewritten(head, timing, close=False)
            found = answer.next_head(bytes(rest))
        return out

    def refused_early(self) -> None:
        """Note that the upstream takes no more of the request; it may still answer."""
        self.answer.is_early = True
        self.close = True

    def fate(self, *, sent: bool, before: Fate, shared: bool, may_own: bool) -> Fate:
        """Return what becomes of the upstream's connection now that the answer is
        whole; as ``lending.fate``.
        """
        return lending.fate(self.request, self.answer, sent=sent, before=before, shared=shared, may_own=may_own)

    def _final(self, head: ResponseHead, rest: bytes | memoryview, timing: Callable[[], bytes]) -> bytes:
        answer, body = self.answer, head.body(self.request.method)
        answer.unchunks = head.chunked and not body.done and self.request.version == (1, 0)
        self.close = self.close or body.until_close or answer.unchunks or not self.body.done
        out = self._rewritten(head, timing, close=self.close) + answer.scan(body, rest)
        # An error up to here can still be told to the visitor, who has got nothing of
        # the answer.
        answer.head, answer.body = head if head.size <= SLIM_HEAD else head.slimmed(), body
        return out

    def _rewritten(self, head: ResponseHead, timing: Callable[[], bytes], *, close: bool) -> bytes:
        rules = self._rules
        extra = timing() if rules is not None and rules.server_timing else b""
        return forward.response_head(head, self.request, self._forwarding, rules, close=close, extra=extra)
