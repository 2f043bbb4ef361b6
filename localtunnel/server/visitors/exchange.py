"""One request and its response, on their way between a visitor and a joined proxy connection.

The heads are rewritten (``http.forward``), the bodies are scanned for their end (``http.body``) and moved untouched by
the pump. What has begun and cannot be finished is cut with a reset: a truncated body must not look complete.
"""

import errno
import time
from collections.abc import Callable

from localtunnel.errors import (
    BadRequest,
    PoolExhausted,
    RequestTimeout,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    VisitorError,
)
from localtunnel.http.conversation import Conversation
from localtunnel.http.forwarding import forward
from localtunnel.http.lending import CLOSED, PINNED
from localtunnel.http.message.request import RequestHead
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.metered import MeteredEnd
from localtunnel.net.flow.pump import Side, buffer, view
from localtunnel.net.flow.relay import Relay
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.join import Join
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections
from localtunnel.server.tunnels.tunnel import Tunnel
from localtunnel.server.visitors.connection import Connection
from localtunnel.server.visitors.progress import Progress

MAX_PIPELINED = 8 * 1024
"""Bytes of further requests that are held while one is answered: then the visitor is not read any more, and no read
brings more than that. Together with ``conversation.MAX_HELD_HEAD`` it bounds what a visitor can hold by waiting."""

_UNKNOWN_TO_THE_CLIENT = (UpstreamInvalid, RequestTimeout, BadRequest)
"""Why the server ends an exchange that was begun. What the client finds out at its upstream it reports by itself."""

STALLED = 60.0
"""Seconds in which a visitor has to send a byte of its body, or take one of its answer: nginx allows the same."""

_LINK_LOST = "The connection to the tunnel's client was lost before an answer came."

_ahead = view[:MAX_PIPELINED]


class Exchange(Join):
    """One request on its way. The visitor's connection lends its side, and gets it back with ``exchange_ended``.

    ``first`` is the request as it goes out: the rewritten head, and what has come of the body.
    """

    __slots__ = (
        "_answer",
        "_assign",
        "_assignment",
        "_carrier",
        "_connection",
        "_conversation",
        "_deadline",
        "_first_size",
        "_fresh",
        "_joined_at",
        "_progress",
        "_relay",
        "_retried",
        "_tunnel",
    )

    def __init__(
        self,
        connection: Connection,
        tunnel: Tunnel,
        request: RequestHead,
        rest: memoryview,
        assign: Callable[[], Assignment],
        deadline: Deadline,
    ) -> None:
        """``rest`` is what has come behind the head; ``assign`` makes the assignment, which few exchanges need.

        Raises BadRequest for what is no body.
        """
        conversation = self._conversation = Conversation(request, connection.forwarding, tunnel.rules, rest)
        if conversation.used < len(rest):
            connection.hold(rest[conversation.used :])
        super().__init__(conversation.first)
        conversation.first = b""
        self._assign = assign
        self._assignment: Assignment | None = None
        self._first_size = len(self.first)
        self._connection = connection
        self._tunnel = tunnel
        self._deadline = deadline
        self._carrier: KeptConnection | None = None
        self._fresh = True
        self._retried = False
        self._relay: Relay | None = None
        self._answer = conversation.answer
        self._joined_at = self.started
        self._progress: Progress | None = None

    @property
    def assignment(self) -> Assignment:
        """What the client is told about the visitor, when the exchange goes out on a fresh connection."""
        if self._assignment is None:
            self._assignment = self._assign()
        return self._assignment

    @property
    def pending(self) -> bool:
        """Whether it still waits for a proxy connection."""
        return self._carrier is None and self._relay is None and self.reason is None

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        return self._first_size + (self._connection.side.count if self._relay is None else self._relay.from_a)

    @property
    def sent(self) -> int:
        """Bytes from the upstream so far."""
        if self._relay is not None:
            return self._relay.from_b
        return self._carrier.count if self._carrier is not None else 0

    # Beginning.

    def start(self) -> None:
        """Begin, unless the visitor has gone while the exchange waited for its turn."""
        if self.reason is None:
            self._tunnel.open(self, self._deadline)

    def joined(self, end: End, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Begin on the fresh connection ``end``; the bytes given are already read, or not yet written."""
        if self.meter is not None:
            end = MeteredEnd(end, self.meter)
        kept = self._tunnel.kept
        carrier = kept.carry(end)
        kept.await_answer(self)
        self._fresh = True
        self._begin(carrier, to_upstream)
        if to_visitor and self._carrier is carrier:
            carrier.count += len(to_visitor)
            carrier.take_in(memoryview(to_visitor))

    def carried(self, carrier: KeptConnection) -> None:
        """Begin on a connection that has carried others before."""
        self._fresh = False
        self._begin(carrier, self.first)
        if self._carrier is carrier:
            self._tunnel.kept.await_acknowledgement(self)

    def _is_known(self) -> bool:
        """Whether the client has the request for certain: it has acknowledged the assignment that brought it."""
        return self._fresh and self._tunnel.version.acknowledges

    def listen(self) -> None:
        """Hear of it when the visitor is gone, though nothing is read from it."""
        self._connection.listen(self._visitor_gone)

    def _visitor_gone(self) -> None:
        self.abort("visitor gone")

    def _make_room(self) -> None:
        if self._answer.body is None:
            self.abort("made room")

    def _begin(self, carrier: KeptConnection, to_upstream: bytes) -> None:
        visitor = self._connection.side
        self.cancel = None
        self._carrier = carrier
        self._joined_at = time.monotonic()
        self._connection.waits_no_more(self)
        visitor.bind(self, carrier, filtered=True)
        if self._conversation.body.done:
            visitor.piece = _ahead
        if self._connection.held > MAX_PIPELINED:
            visitor.reading = False
            self.listen()
        if not self._conversation.is_repeatable or self._is_known():
            self.first = b""
            self._conversation.slim()
        carrier.bind(self, visitor, filtered=True)
        if to_upstream:
            carrier.write(to_upstream)
            if self._carrier is not carrier:
                return
        carrier.watch()
        visitor.watch()

    def refuse(self, error: VisitorError) -> None:
        """End before it began: the visitor is answered with ``error``, unless another tunnel may have the request."""
        if not self.pending:
            return
        conversation = self._conversation
        may_repeat = conversation.is_repeatable or not self.assigned
        may_go_on = self._tunnel.ended and conversation.request.is_whole and may_repeat
        if may_go_on and isinstance(error, PoolExhausted) and self._deadline.remaining():
            self._await_tunnel()
        else:
            self._refuse(error)

    # What the pump tells.

    def filter(self, side: Side, data: memoryview) -> bytes | memoryview:
        """Return what of ``data``, or instead of it, goes to the other side."""
        try:
            if side is self._carrier:
                return self._from_upstream(self._carrier, data)
            return self._from_visitor(data)
        except UpstreamInvalid as error:
            self._invalid(error, "upstream")
        except BadRequest as error:
            self._invalid(error, "visitor")
        return b""

    def unseen(self, side: Side) -> int:
        """Return how many bytes of the body may pass without a look at them."""
        body = self._answer.body if side is self._carrier else self._conversation.body
        return 0 if body is None else body.unseen

    def passed(self, side: Side, size: int) -> None:
        """So many have passed."""
        body = self._answer.body if side is self._carrier else self._conversation.body
        if body is not None:
            body.skip(size)

    def read_ended(self, side: Side) -> None:
        """The visitor has nothing more to say, or the upstream has closed."""
        if side is not self._carrier:
            if self._conversation.body.done or side.discarding:
                self._connection.keep_asking()
                self.listen()
                self._connection.give_up = self._make_room
            else:
                self.abort("visitor closed early")
        elif self._answer.body is None:
            self._unanswered()
        elif self._answer.body.until_close:
            if not self._connection.side.backlog:
                self._finish()
        else:
            self.abort("upstream closed early")

    def read_failed(self, side: Side, error: OSError) -> None:
        """One of the two was reset, or timed out."""
        has_timed_out = error.errno == errno.ETIMEDOUT
        reason = "timed out" if has_timed_out else "reset"
        if side is not self._carrier:
            self.abort(f"visitor {reason}")
        elif self._answer.body is None:
            self._unanswered(UpstreamTimeout(_LINK_LOST) if has_timed_out else None)
        else:
            self.abort(f"upstream {reason}")

    def all_written(self, side: Side) -> None:
        """The last byte of the response has gone out."""
        if side is not self._carrier:
            self._finish()

    def write_failed(self, side: Side) -> None:
        """The visitor has gone; or the upstream takes no more of the request, and may still have an answer to give."""
        if side is not self._carrier:
            self.abort("visitor gone")
        elif self._answer.body is None and not self._fresh:
            self._unanswered()
        else:
            side.backlog = b""
            self._conversation.refused_early()
            self._connection.side.discarding = True
            self._connection.side.watch()

    # The two directions.

    def _from_visitor(self, data: memoryview) -> memoryview:
        used = self._conversation.from_visitor(data)
        if used < len(data):
            self._connection.hold(data[used:])
            if self._connection.held > MAX_PIPELINED:
                self._connection.side.reading = False
                self._connection.side.watch()
                self.listen()
        return data[:used]

    def _from_upstream(self, carrier: KeptConnection, data: memoryview) -> bytes | memoryview:
        conversation, answer = self._conversation, self._answer
        had_begun = answer.body is not None
        passed = conversation.from_upstream(data, buffer, sent=not carrier.backlog, timing=self._timing)
        if conversation.switched is not None:
            self._switch(carrier, bytes(passed) + conversation.switched)
            return b""
        body = answer.body
        if body is None:
            return passed
        if not had_begun:
            self._tunnel.kept.answered(self)
        if body.done:
            carrier.reading = False
            if not passed:
                # The last chunk was taken out, so that no write will tell of the end.
                self._finish()
        return passed

    def _timing(self) -> bytes:
        """Say how long the parts took: until a connection was joined, on the way to the client, and at the upstream."""
        now = time.monotonic()
        tunnel = self._tunnel.round_trip
        return forward.server_timing(self._joined_at - self.started, tunnel, max(0.0, now - self._joined_at - tunnel))

    def _switch(self, carrier: KeptConnection, switched: bytes) -> None:
        """The upstream has changed the protocol, as the visitor asked: from here on bytes only."""
        visitor = self._connection.side
        self._tunnel.kept.answered(self)
        early = self._connection.lend()
        carrier.unbind()
        visitor.unbind()
        self._carrier = None
        hold_eof = not self._tunnel.version.acknowledges
        relay = self._relay = Relay(
            visitor.end, carrier.end, self._relay_ended, hold_eof=hold_eof, half_closed=self.half_closed
        )
        relay.start(to_a=switched, to_b=early)

    # Ends.

    def take_kept(self, kept: KeptConnections) -> KeptConnection | None:
        """Return a connection that is already joined, where this exchange may use one."""
        carrier = self._connection.take_pinned(kept, self._conversation.request)
        if carrier is None and self._conversation.is_repeatable:
            carrier = kept.take()
        return carrier

    def tick(self, seconds: float) -> None:
        """Give up a visitor who has moved nothing for too long; to be called every ``seconds``."""
        carrier, visitor = self._carrier, self._connection.side
        if self._relay is not None:
            self._relay.look()
        if carrier is None:
            return
        if carrier.backlog:
            self.listen()
        awaits_body = visitor.reading and not carrier.backlog and not self._conversation.body.done
        if not (visitor.backlog or awaits_body):
            self._progress = None
            return
        if self._progress is None:
            self._progress = Progress(STALLED)
        if self._progress.has_stalled(visitor.count + carrier.count - len(visitor.backlog), seconds):
            self._give_up()

    def _give_up(self) -> None:
        if self._answer.body is None:
            self._refuse(RequestTimeout("The request's body did not arrive in time."))
        else:
            self.abort("visitor stalled")

    def abort(self, reason: str) -> None:
        """Reset both connections now. May be called twice."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.reason is None:
            self._ended(reason)
            self._let_go(reset=True)
            self._connection.reset()

    def _unanswered(self, error: UpstreamError | None = None) -> None:
        """The connection ended before the answer: a kept one may just have been closed, and then a fresh one serves.

        ``error`` is what the visitor is told if not; without one, what has come of the answer tells.
        """
        if self._is_known() or self._retried or not self._conversation.is_repeatable or self._answer.has_begun:
            self._refuse(error or self._answer.cut_short())
            return
        self._go_again(reset=False)

    def is_lost(self) -> bool | None:
        """Say whether the request has not reached the client, None where it is too early to tell.

        What was sent on a kept connection and never acknowledged goes out again, where
        it may be repeated: the acknowledgement alone may have been lost.
        """
        carrier = self._carrier
        if carrier is None or self._answer.has_begun:
            return False
        lost = carrier.is_lost(time.monotonic() - self._joined_at)
        if lost:
            self._tunnel.suspect()
            if self._conversation.is_repeatable and not self._retried:
                self._go_again(reset=True)
        return lost

    def _go_again(self, *, reset: bool) -> None:
        """Go out on a fresh connection, and have all the time for that: how long the old one took is nobody's fault."""
        self._retried = True
        self._deadline = Deadline(self._deadline.seconds)
        self._let_go(reset=reset)
        self._connection.side.unbind()
        self._tunnel.assign(self, self._deadline)
        if self.pending:
            self.listen()

    def _await_tunnel(self) -> None:
        """Wait for the tunnel that takes this one's place.

        It may have other rules, so that the request begins anew there.
        """

        def in_vain() -> None:
            self._refuse(PoolExhausted("The tunnel's client has gone; try again in a moment."))

        waiting = self._tunnel.succession.wait(self._deadline, self._move, in_vain)
        self.cancel = None if waiting is None else waiting.cancel

    def _move(self) -> None:
        arrived = self.first[self._conversation.head_size :]
        self._ended("moved")
        self._let_go(reset=True)
        self._connection.begin_again(self._conversation.request, arrived, self._deadline)

    def _invalid(self, error: BadRequest | UpstreamInvalid, whose: str) -> None:
        if self._answer.body is None:
            self._refuse(error)
        else:
            self.abort(f"{whose} sent an invalid body")

    def _refuse(self, error: VisitorError) -> None:
        """Answer the visitor ourselves; what was begun at the upstream is cut."""
        if isinstance(error, _UNKNOWN_TO_THE_CLIENT):
            self._tunnel.refused(error)
        self._ended(error.code)
        self._let_go(reset=True)
        self._connection.answer(error, self._conversation.request)

    def _let_go(self, *, reset: bool) -> None:
        """End the attempt to be assigned, or the connection that was."""
        if self.cancel is not None:
            self.cancel()
            self.cancel = None
        self._connection.waits_no_more(self)
        self._tunnel.kept.answered(self)
        if self._carrier is not None:
            self._carrier.close(reset=reset)
            self._carrier = None

    def _finish(self) -> None:
        """The response is whole: keep both connections where that is safe."""
        carrier = self._carrier
        if carrier is None:
            return
        connection, conversation = self._connection, self._conversation
        is_whole = conversation.body.done and not carrier.backlog
        fate = conversation.fate(sent=is_whole, pinned=carrier.personal, shared=connection.is_shared)
        self._ended("answered")
        self._carrier = None
        if fate is CLOSED:
            carrier.close(reset=not is_whole)
        else:
            carrier.unbind()
            if fate is PINNED:
                connection.pin(self._tunnel.kept, carrier)
            else:
                self._tunnel.kept.keep(carrier)
        connection.exchange_ended(close=conversation.close, whole=is_whole)

    def _relay_ended(self, reason: str) -> None:
        self._connection.gone()
        self._ended(reason)
