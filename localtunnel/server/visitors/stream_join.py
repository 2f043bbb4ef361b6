"""A visitor whose whole connection is bound to one proxy connection."""

from collections.abc import Callable

from localtunnel.errors import UpstreamClosed, VisitorError
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.flow.metered import MeteredEnd
from localtunnel.net.flow.relay import Relay
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.join import Join


class StreamJoin(Join):
    """A visitor's connection, bound to one proxy connection: bytes only, until both
    have closed.

    It owns the visitor's connection. ``refuse(error)`` gets that back, to answer the
    visitor, when there is no upstream for it. ``leave()`` is called before that, and
    when the visitor has gone.
    """

    __slots__ = ("_assignment", "_early", "_leave", "_refuse", "_relay", "_visitor")

    def __init__(
        self,
        assignment: Assignment,
        visitor: SocketEnd,
        first: bytes,
        refuse: Callable[[VisitorError], None],
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(first)
        self._assignment = assignment
        self._leave = leave
        self._visitor = visitor
        self._refuse = refuse
        self._relay: Relay | None = None
        self._early = 0

    @property
    def assignment(self) -> Assignment:
        """What the client is told about the visitor."""
        return self._assignment

    @property
    def pending(self) -> bool:
        """Whether the join still waits for a proxy connection."""
        return self._relay is None and self.reason is None

    @property
    def received(self) -> int:
        """Bytes from the visitor so far."""
        return self._early + self._relay.from_a if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes from the upstream so far."""
        return self._relay.from_b if self._relay else 0

    def joined(self, end: End, to_visitor: bytes, to_upstream: bytes, *, hold_eof: bool) -> None:
        """Start to relay between the visitor and ``end``; ``hold_eof`` as in
        ``net.flow.relay.Relay``.

        An HTTP visitor whose upstream ends without a byte is answered instead of left
        with nothing.
        """
        unanswered = self._unanswered if self.assignment.kind == "http" else None
        if self.meter is not None:
            end = MeteredEnd(end, self.meter)
        relay = Relay(
            self._visitor,
            end,
            self._ended,
            hold_eof=hold_eof,
            on_unanswered=unanswered,
            half_closed=self.half_closed,
            give_back=None if self.returns is None else self.returns.take,
        )
        self.cancel = None
        self._relay = relay
        # These bytes went out with the assignment, and not through the relay.
        self._early = len(self.first) - len(to_upstream)
        self.first = b""
        relay.start(to_a=to_visitor, to_b=to_upstream)

    def tick(self, seconds: float) -> None:
        """Look after an end that no event tells of."""
        if self._relay is not None:
            self._relay.look()

    def refuse(self, error: VisitorError) -> None:
        """End before it began, and have the visitor answered with ``error``."""
        if self.pending:
            self._ended(error.code)
            self._refuse(error)

    def abort(self, reason: str) -> None:
        """Reset both connections now. Idempotent."""
        if self._relay is not None:
            self._relay.abort(reason)
        elif self.pending:
            if self.cancel is not None:
                self.cancel()
            self._visitor.reset()
            self._ended(reason)

    def _ended(self, reason: str) -> None:
        self.cancel = None
        self._leave()
        super()._ended(reason)

    def _unanswered(self) -> None:
        self._ended(UpstreamClosed.code)
        self._refuse(UpstreamClosed())
