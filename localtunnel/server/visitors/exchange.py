"""One request and its answer, moved between a visitor and a joined connection.

``delivery`` finds the connection, ``http.conversation`` says what goes on of the bytes
and where both messages end, and the pump moves them. An answer that has begun and
cannot be finished is cut with a reset: a truncated body must not look complete.
"""

import time

from localtunnel.errors import BadRequest, RequestTimeout, UpstreamInvalid, UpstreamTimeout
from localtunnel.http.forwarding import forward
from localtunnel.http.lending import CLOSED, ENDED, LENT, OWN
from localtunnel.net.flow.buffer import buffer, view
from localtunnel.net.flow.pump import Side
from localtunnel.net.flow.relay import Relay
from localtunnel.net.sockets import TIMED_OUT
from localtunnel.server.tunnels.kept import KeptConnection
from localtunnel.server.visitors.delivery import Delivery

MAX_PIPELINED = 8 * 1024
"""Bytes of further requests that are held while one is answered: a visitor who has sent
more is not read for the time being, and no read brings more than that. Together with
``conversation.MAX_HELD_HEAD`` it bounds what a visitor can have the server hold."""

STALLED = 60.0
"""Seconds in which a visitor has to send a byte of its body, or take one of its answer:
nginx allows the same."""

_LINK_LOST = "The connection to the tunnel's client was lost before an answer came."

_ahead = view[:MAX_PIPELINED]


class Progress:
    """How long nothing has moved, against ``patience`` in seconds."""

    __slots__ = ("_count", "_patience", "_still")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._count = -1
        self._still = 0.0

    def has_stalled(self, count: int, seconds: float) -> bool:
        """Note that ``count`` bytes have moved so far, ``seconds`` after the last call;
        say whether nothing has moved for too long.
        """
        if count != self._count:
            self._count, self._still = count, 0.0
        else:
            self._still += seconds
        return self._still >= self._patience


class Exchange(Delivery):
    """Owns both sides of the pump from the first byte to the last one of the answer.

    The visitor's connection lends its side, and gets it back with ``exchange_ended``.
    """

    __slots__ = ("_progress",)

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

    def _begin(self, carrier: KeptConnection, to_upstream: bytes) -> None:
        connection, conversation = self._connection, self._conversation
        visitor = connection.side
        self.cancel = None
        self._carrier = carrier
        self._joined_at = time.monotonic()
        self._progress: Progress | None = None
        if self._is_waiting:
            self._waits_no_more()
        visitor.bind(self, carrier, filtered=True)
        if conversation.body.done:
            visitor.piece = _ahead
        if len(connection.held) > MAX_PIPELINED:
            visitor.reading = False
            self.listen()
        if self._is_known() or not (conversation.is_repeatable or carrier.fate is OWN):
            self.first = b""
            conversation.slim()
        carrier.bind(self, visitor, filtered=True)
        if to_upstream:
            carrier.write(to_upstream)
            if self._carrier is not carrier:
                return
        carrier.watch()
        visitor.watch()

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
        """Count ``size`` body bytes that bypassed ``filter``."""
        body = self._answer.body if side is self._carrier else self._conversation.body
        if body is not None:
            body.skip(size)

    def read_ended(self, side: Side) -> None:
        """Act on the visitor's end of input, or on the upstream's close."""
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
        """Act on a connection that was reset, or timed out."""
        has_timed_out = error.errno in TIMED_OUT
        reason = "timed out" if has_timed_out else "reset"
        if side is not self._carrier:
            self.abort(f"visitor {reason}")
        elif self._answer.body is None:
            self._unanswered(UpstreamTimeout(_LINK_LOST) if has_timed_out else None)
        else:
            self.abort(f"upstream {reason}")

    def all_written(self, side: Side) -> None:
        """Finish when the last byte of the answer has gone out."""
        if side is not self._carrier:
            self._finish()

    def write_failed(self, side: Side) -> None:
        """Act on a visitor that has gone, or on an upstream that takes no more."""
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
            if len(self._connection.held) > MAX_PIPELINED:
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
        if not had_begun and self._fresh:
            carrier.kept.answered(self)
        if body.done:
            carrier.reading = False
            if not passed:
                # No byte is left to write, so that no write tells of the end.
                self._finish()
        return passed

    def _timing(self) -> bytes:
        """Return how long the request waited, was in the tunnel, and at the
        upstream.
        """
        now = time.monotonic()
        tunnel = self._tunnel.round_trip
        return forward.server_timing(self._joined_at - self.started, tunnel, max(0.0, now - self._joined_at - tunnel))

    def _switch(self, carrier: KeptConnection, switched: bytes) -> None:
        """Relay bytes only, now that the upstream has changed the protocol as asked."""
        visitor = self._connection.side
        carrier.kept.answered(self)
        early = self._connection.lend()
        carrier.unbind()
        visitor.unbind()
        self._carrier = None
        hold_eof = not self._tunnel.version.acknowledges
        relay = self._relay = Relay(
            visitor.end,
            carrier.end,
            self._relay_ended,
            hold_eof=hold_eof,
            half_closed=self.half_closed,
            give_back=None if self.returns is None else self.returns.take,
        )
        relay.start(to_a=switched, to_b=early)

    # Ends.

    def tick(self, seconds: float) -> None:
        """Give up a visitor that moves nothing; called every ``seconds``."""
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

    def _make_room(self) -> None:
        if self._answer.body is None:
            self.abort("made room")

    def abort(self, reason: str) -> None:
        """Reset both connections now. Idempotent."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.reason is None:
            self._ended(reason)
            self._let_go(reset=True)
            self._connection.reset()

    def _invalid(self, error: BadRequest | UpstreamInvalid, whose: str) -> None:
        if self._answer.body is None:
            self._refuse(error)
        else:
            self.abort(f"{whose} sent an invalid body")

    def _finish(self) -> None:
        """End after a whole answer, and keep both connections if that is safe."""
        carrier = self._carrier
        if carrier is None:
            return
        connection, conversation = self._connection, self._conversation
        is_whole = conversation.body.done and not carrier.backlog
        fate = conversation.fate(
            sent=is_whole, before=carrier.fate, shared=connection.is_shared, may_own=self.returns is not None
        )
        self._ended("answered")
        self._carrier = None
        if fate is CLOSED:
            carrier.close(reset=not is_whole)
        elif fate is ENDED:
            carrier.kept.give_back(carrier)
        else:
            carrier.unbind()
            carrier.fate = fate
            if fate is LENT:
                carrier.kept.keep(carrier)
            else:
                connection.retain(carrier)
        connection.exchange_ended(close=conversation.close, whole=is_whole)

    def _relay_ended(self, reason: str) -> None:
        self._connection.gone()
        self._ended(reason)
