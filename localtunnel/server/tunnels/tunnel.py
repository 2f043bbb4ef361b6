"""One name, its pool and its joins."""

import logging
import time
from collections.abc import Callable

from localtunnel.errors import LimitReached, PoolExhausted, RefusedError, VisitorError
from localtunnel.http.options.rules import Rules
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.metered import Allowance
from localtunnel.net.listen import Listener
from localtunnel.protocol.messages import Kind
from localtunnel.protocol.wire.framing import LTP_0_2
from localtunnel.server.limits.quotas import Place
from localtunnel.server.limits.rates import Bucket
from localtunnel.server.limits.turns import TunnelTurn
from localtunnel.server.tunnels.assigning import Assigning02, Assigning03
from localtunnel.server.tunnels.demand import Demand, Shares
from localtunnel.server.tunnels.join import Join, Joins
from localtunnel.server.tunnels.kept import KeptConnections
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.tunnels.refusals import Refusals
from localtunnel.server.tunnels.succession import Succession

log = logging.getLogger("localtunnel.server")


def _nobody(*_: object) -> None:
    """Nobody has to be told."""


def _no_place() -> None:
    """There is no quota."""


class Tunnel:
    """What visitors of one name go through. It ends with its control connection; its joins end by themselves.

    ``on_end(reason)`` is called once, when the tunnel ends from the outside, for its control connection to close;
    ``on_size(size)`` whenever an LTP/0.3 pool is to have another size; ``on_suspect()`` when its connections may be
    dead in silence; ``on_refusal()`` while there are ``refusals``.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        version: bytes,
        max_waiting: int,
        shares: Shares,
        joins: Joins,
        *,
        rules: Rules | None = None,
        requests: Bucket | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.version = version
        self.is_encrypted = False
        """Whether its control connection is TLS; then its proxy connections have to be as well."""
        self.rules = rules
        """What its client asked for, which the edge holds to for every request; None where it asked for nothing."""
        self.requests = requests
        """How many requests per second it may have; None for as many as come."""
        self.turn = TunnelTurn()
        self.round_trip = 0.0
        """Seconds to the client and back, as measured last."""
        self.ended: str | None = None
        self.succession = Succession()
        """Tells when its name has the next tunnel, or none."""
        self.verdict: RefusedError | None = None
        """Why the server ended the tunnel against its client's will, where it did."""
        self.meter: Allowance | None = None
        """The limit on bytes a second that new visitors share with those of other tunnels, where there is one."""
        self.joins = Joins()
        self.listeners: list[Listener] = []
        """Where a TCP tunnel's visitors come in; they stop with the tunnel, for the next one may listen at once."""
        self.admit: Callable[[], Place | None] = _no_place
        """Returns the place of one more visitor in a quota, if there is one. Raises LimitReached."""
        self._places: dict[Join, Place] = {}
        self.on_end: Callable[[str], None] = _nobody
        self.on_size: Callable[[int], None] = _nobody
        self.on_suspect: Callable[[], None] = _nobody
        self.on_refusal: Callable[[], None] = _nobody
        self.refusals = Refusals()
        """The requests that the server has refused, and the client has not been told of."""
        self._kept: KeptConnections | None = None
        self._pool = Pool(max_waiting)
        self._pool.on_suspect = self._suspected
        self._all_joins = joins
        self._demand = Demand(shares, self._resized) if version != LTP_0_2 else None

    def __repr__(self) -> str:
        return f"<Tunnel {self.name} {self._pool!r} joins={len(self.joins)} {self.ended or 'open'}>"

    @property
    def size(self) -> int:
        """How many connections an LTP/0.3 client is asked to park."""
        return self._demand.size if self._demand is not None else 0

    @property
    def acknowledges(self) -> bool:
        """Whether the client says that it has an assignment, so that a connection that ends after it is no dead one."""
        return self.version != LTP_0_2

    @property
    def kept(self) -> KeptConnections:
        """The joined connections that are kept between two exchanges."""
        if self._kept is None:
            self._kept = KeptConnections()
            if self.ended is not None:
                self._kept.close()
        return self._kept

    def park(self, end: SocketEnd, place: Place | None = None) -> None:
        """Take over a proxy connection for visitors to come, and its place in the quota of such connections."""
        self._pool.park(end, place)

    def open(self, join: Join, deadline: Deadline) -> None:
        """Take over ``join`` and bind it to a proxy connection, now if one is parked, else when one comes.

        When the client has not taken it by ``deadline``, the join is refused. Never blocks.
        """
        try:
            place = self.admit()
        except LimitReached:
            error = PoolExhausted("The tunnel has reached its limit of visitors; try again in a moment.")
            join.refuse(error)
            self.refused(error)
            return
        if place is not None:
            self._places[join] = place
        self.joins.add(join)
        self._all_joins.add(join)
        join.own(self._join_ended)
        join.meter = self.meter
        join.half_closed = self._all_joins.half_closed
        carrier = join.take_kept(self._kept) if self._kept is not None else None
        if carrier is not None:
            join.carried(carrier)
        else:
            self.assign(join, deadline)

    def assign(self, join: Join, deadline: Deadline) -> None:
        """Bind ``join``, which is open, to a fresh proxy connection. Never blocks."""
        if self._kept is not None:
            self._kept.make_room()
        if self._demand is None:
            Assigning02(join, self._pool, deadline).start()
        else:
            self._demand.arrived()
            Assigning03(join, self._pool, deadline).start()

    def suspect(self) -> None:
        """Note that a joined connection was found dead: others may be as well."""
        self._pool.suspect_all()

    def outdate(self) -> None:
        """Note that the client is asked to replace all the connections that are parked now."""
        self._pool.outdate()

    def refused(self, error: VisitorError) -> None:
        """Count a request that the server has answered with ``error``, and that the client does not know of."""
        self.refusals.add(error)
        self.on_refusal()

    def measured(self, seconds: float) -> None:
        """Note how long it takes to the client and back."""
        self.round_trip = seconds

    def tick(self) -> None:
        """Let go of what is old or no longer needed; to be called every few seconds."""
        if self._demand is not None and self.ended is None:
            self._pool.expire()
        if self.refusals and self.ended is None:
            self.on_refusal()

    def end(self, reason: str) -> None:
        """Close the pool and turn visitors away who wait. May be called twice; only the first reason counts."""
        if self.ended is not None:
            return
        self.ended = reason
        for listener in self.listeners:
            listener.stop()
        # These hold the tunnel, and what holds each other waits for the cyclic collector.
        self.listeners.clear()
        self.admit = _no_place
        if self._demand is not None:
            self._demand.close()
        self._pool.close()
        if self._kept is not None:
            self._kept.close()
        self.on_end(reason)

    def tell_nobody(self) -> None:
        """Call nobody of ``on_end`` and the others any more: the control connection has ended."""
        self.on_end = self.on_size = self.on_suspect = self.on_refusal = _nobody

    def revoke(self, verdict: RefusedError) -> None:
        """End the tunnel and its visitors, because its client has no right to it any more. May be called twice."""
        if self.ended is None:
            self.verdict = verdict
            # Its name may go on, but not for those who wait here: they are refused, and only then the others cut.
            self.succession.settle()
            self.end(verdict.code)
            self.joins.abort_all(verdict.code)

    def _resized(self, size: int) -> None:
        self.on_size(size)

    def _suspected(self) -> None:
        """A connection was dead in silence: those that are kept may be as well, and nothing tells of it."""
        if self._kept is not None:
            self._kept.release()
        self.on_suspect()

    def _join_ended(self, join: Join) -> None:
        self.joins.discard(join)
        self._all_joins.discard(join)
        place = self._places.pop(join, None)
        if place is not None:
            place.release()
        if join.reason == PoolExhausted.code:
            self.refused(PoolExhausted("No connection was free in time."))
        if not log.isEnabledFor(logging.DEBUG):
            return
        log.debug(
            "join ended",
            extra={
                "tunnel": self.name,
                "join": join.assignment.id,
                "visitor": join.assignment.peer,
                "reason": join.reason,
                "received": join.received,
                "sent": join.sent,
                "seconds": round(time.monotonic() - join.started, 3),
            },
        )
