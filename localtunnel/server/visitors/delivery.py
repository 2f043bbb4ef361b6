"""How a request comes by a connection: kept or fresh, twice if one fails.

A request may go out again only where nothing can have come of it, or where its method
allows it to come twice (``http.conversation.REPEATABLE``). What has not begun at any
upstream follows its name to the next tunnel.
"""

import time
from collections.abc import Callable
from functools import partial

from localtunnel.errors import BadRequest, PoolExhausted, RequestTimeout, UpstreamError, UpstreamInvalid, VisitorError
from localtunnel.http.conversation import Conversation
from localtunnel.http.lending import OWN
from localtunnel.http.message.request import RequestHead
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.metered import MeteredEnd
from localtunnel.net.flow.relay import Relay
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.join import Join
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections
from localtunnel.server.tunnels.tunnel import Tunnel
from localtunnel.server.visitors.connection import Connection

CLIENT_GONE = "The tunnel's client has gone; try again in a moment."
"""What a visitor is told whose request has waited in vain for the name's next
tunnel."""

_UNKNOWN_TO_THE_CLIENT = (UpstreamInvalid, RequestTimeout, BadRequest)
"""Why the server ends an exchange that was begun. What the client finds out at its
upstream it reports by itself."""


class Delivery(Join):
    """One request until a connection carries it, and again when that fails.

    ``first`` is the request as it goes out: the rewritten head, and what has come of
    the body. It is held for as long as it may be needed again.
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
        "_is_waiting",
        "_joined_at",
        "_offset",
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
        """``rest`` is what has come behind the head; ``assign`` makes the assignment,
        which few requests need.

        Raises BadRequest where ``rest`` is not a valid body.
        """
        conversation = self._conversation = Conversation(request, connection.forwarding, tunnel.rules, rest)
        if conversation.used < len(rest):
            connection.hold(rest[conversation.used :])
        super().__init__(conversation.first)
        conversation.first = b""
        self._answer = conversation.answer
        self._assign = assign
        self._assignment: Assignment | None = None
        self._first_size = len(self.first)
        self._connection = connection
        self._tunnel = tunnel
        self._deadline = deadline
        self._carrier: KeptConnection | None = None
        self._fresh = True
        """Whether the connection was assigned for this request, and has carried no
        other."""
        self._is_waiting = False
        self._offset = 0
        """Where the request begins in what was written on a connection that has carried
        others."""
        self._retried = False
        self._joined_at = self.started
        self._relay: Relay | None = None
        """Has taken over both connections once the upstream has changed the
        protocol."""

    @property
    def assignment(self) -> Assignment:
        """What the client of a fresh connection is told about the visitor."""
        if self._assignment is None:
            self._assignment = self._assign()
        return self._assignment

    @property
    def pending(self) -> bool:
        """Whether it still waits for a proxy connection."""
        return self._carrier is None and self._relay is None and self.reason is None

    def start(self) -> None:
        """Ask the tunnel for a connection, unless the visitor has gone meanwhile."""
        if self.reason is None:
            self._tunnel.open(self, self._deadline)

    def take_kept(self, kept: KeptConnections) -> KeptConnection | None:
        """Return a connection that is already joined, if this request may use it."""
        conversation = self._conversation
        carrier = self._connection.take_retained(kept, conversation.request, held=conversation.is_held)
        if carrier is None and conversation.is_repeatable:
            carrier = kept.take()
        return carrier

    def joined(self, end: End, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Begin on the fresh connection ``end``; the bytes given are already read, or
        not yet written.
        """
        if self.meter is not None:
            end = MeteredEnd(end, self.meter)
        kept = self._tunnel.kept
        carrier = KeptConnection(end, kept)
        kept.await_answer(self)
        self._fresh = True
        self._begin(carrier, to_upstream)
        if to_visitor and self._carrier is carrier:
            carrier.count += len(to_visitor)
            carrier.take_in(memoryview(to_visitor))

    def carried(self, carrier: KeptConnection) -> None:
        """Begin on a connection that has carried others before."""
        self._fresh = False
        self._offset = carrier.offset
        self._begin(carrier, self.first)
        if self._carrier is carrier:
            carrier.kept.await_acknowledgement(carrier)

    def wait(self) -> None:
        """Have nothing read while this is ``pending``, and ``listen`` after a
        moment.
        """
        self._is_waiting = True
        self._connection.wait(self)

    def listen(self) -> None:
        """Notice when the visitor is gone, though nothing is read from it."""
        self._connection.listen(partial(self.abort, "visitor gone"))

    def refuse(self, error: VisitorError) -> None:
        """Answer with ``error``, unless the name's next tunnel may get the request."""
        if not self.pending:
            return
        conversation = self._conversation
        may_repeat = conversation.is_repeatable or not self.assigned
        may_go_on = self._tunnel.ended and conversation.request.is_whole and may_repeat
        if may_go_on and isinstance(error, PoolExhausted) and self._deadline.remaining():
            self._await_tunnel()
        else:
            self._refuse(error)

    def is_lost(self) -> bool | None:
        """Say whether the request never reached the client; None: too early to tell.

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

    def _begin(self, carrier: KeptConnection, to_upstream: bytes) -> None:
        """Move bytes between visitor and ``carrier``, ``to_upstream`` first."""
        raise NotImplementedError

    def _is_known(self) -> bool:
        """Whether the client has acknowledged the assignment that brought the
        request.
        """
        return self._fresh and self._tunnel.version.acknowledges

    def _unanswered(self, error: UpstreamError | None = None) -> None:
        """Act on a connection that has ended without an answer.

        A kept one may just have been closed: then the request goes out on a fresh one.
        Otherwise the visitor gets ``error``, or what is wrong with the answer so far.
        """
        carrier = self._carrier
        if self._is_known() or self._retried or self._answer.has_begun:
            self._refuse(error or self._answer.cut_short())
        elif self._conversation.is_repeatable:
            self._go_again(reset=False)
        elif error is None and carrier is not None and carrier.fate is OWN:
            self._ask(carrier)
        else:
            self._refuse(error or self._answer.cut_short())

    def _ask(self, carrier: KeptConnection) -> None:
        """Ask the client whether anything of the request has reached the upstream. If
        nothing has, it may go out again, whatever its method (RFC 9110 9.2.2).
        """
        self._carrier = None
        self._connection.side.unbind()
        self.listen()
        carrier.kept.give_back(carrier, self._told)

    def _told(self, delivered: int | None) -> None:
        if self.reason is not None:
            return
        if delivered is not None and delivered <= self._offset:
            self._go_again(reset=False)
        else:
            self._refuse(self._answer.cut_short())

    def _go_again(self, *, reset: bool) -> None:
        """Send the request on a fresh connection. Its deadline begins anew: the dead
        connection used up the first one.
        """
        self._retried = True
        self._deadline = Deadline(self._deadline.seconds)
        self._let_go(reset=reset)
        self._connection.side.unbind()
        self._tunnel.assign(self, self._deadline)
        if self.pending:
            self.listen()

    def _await_tunnel(self) -> None:
        """Wait for the name's next tunnel. Its rules may differ: the request begins
        anew.
        """

        def in_vain() -> None:
            self._refuse(PoolExhausted(CLIENT_GONE))

        waiting = self._tunnel.succession.wait(self._deadline, self._move, in_vain)
        self.cancel = None if waiting is None else waiting.cancel

    def _move(self) -> None:
        arrived = self.first[self._conversation.head_size :]
        self._ended("moved")
        self._let_go(reset=True)
        self._connection.begin_again(self._conversation.request, arrived, self._deadline)

    def _refuse(self, error: VisitorError) -> None:
        """Answer the visitor with ``error``, and cut what was begun at the upstream."""
        if isinstance(error, _UNKNOWN_TO_THE_CLIENT):
            self._tunnel.refused(error)
        self._ended(error.code)
        self._let_go(reset=True)
        self._connection.answer(error, self._conversation.request)

    def _let_go(self, *, reset: bool) -> None:
        """End the attempt to be assigned, or the connection that came of it."""
        if self.cancel is not None:
            self.cancel()
            self.cancel = None
        if self._is_waiting:
            self._waits_no_more()
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.kept.answered(self)
            if reset:
                carrier.close(reset=True)
            else:
                carrier.kept.give_back(carrier)

    def _waits_no_more(self) -> None:
        self._is_waiting = False
        self._connection.waits_no_more(self)
