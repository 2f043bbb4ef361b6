"""An open tunnel: its pool of proxy connections and its joins."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from localtunnel.errors import LimitReached, PoolExhausted, RefusedError, VisitorError
from localtunnel.http.options.rules import Rules
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.metered import Allowance
from localtunnel.net.listen import Listener
from localtunnel.protocol.version import Version
from localtunnel.server.limits.quotas import Place
from localtunnel.server.limits.rates import Bucket
from localtunnel.server.limits.turns import TunnelTurn
from localtunnel.server.tunnels.assigning import Assigning02, Assigning03
from localtunnel.server.tunnels.demand import Demand, Shares
from localtunnel.server.tunnels.join import Join, Joins
from localtunnel.server.tunnels.kept import KeptConnections
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.tunnels.refusals import Refusals
from localtunnel.server.tunnels.returns import Readmission, Returns
from localtunnel.server.tunnels.succession import Succession

log = logging.getLogger("localtunnel.server")

RELEASED = "released"
REPLACED = "replaced"
STOPPED = "server stopped"
FAILED = "internal error"
"""Reasons for the end of a tunnel that decide what becomes of its name, or that several
places give. Any other is for the log only."""


def _no_quota() -> None:
    """Admit any number of visitors."""


class Terms(NamedTuple):
    """The terms of a tunnel: the client's wishes, as far as the server allows them."""

    name: str
    version: Version
    max_waiting: int
    """Visitors that may wait for a proxy connection at a time."""
    succession: Succession
    """Tells waiting visitors when the name has its next tunnel, or none."""
    is_encrypted: bool = False
    """Whether the control connection is TLS. Then the proxy connections have to be as
    well."""
    rules: Rules | None = None
    """The client's options, which the edge applies to each request; None where there
    are none."""
    requests: Bucket | None = None
    """The limit on requests per second, if there is one."""
    meter: Allowance | None = None
    """The limit on bytes per second that visitors share with those of other tunnels, if
    there is one."""
    readmission: Readmission | None = None
    """Admits proxy connections that come back; None where none does."""
    admit: Callable[[], Place | None] = _no_quota
    """Returns the place of one more visitor in a quota, if there is one. Raises
    LimitReached."""


class TunnelOwner(Protocol):
    """The control connection that keeps a tunnel open. Nothing here raises or waits."""

    def resize(self, size: int) -> None:
        """The pool of an LTP/0.3 client is to have ``size`` connections."""

    def renew(self, pool: Pool) -> None:
        """The connections in ``pool`` may be dead in silence."""

    def turned_away(self, refusals: Refusals) -> None:
        """Requests were refused that the client has not been told of."""

    def ended(self, reason: str, verdict: RefusedError | None) -> None:
        """The tunnel has ended; called once.

        With a ``verdict``, the server ended it against the client's will.
        """


class Tunnel:
    """The way from the visitors of one name to its client.

    It ends with its control connection; its joins end by themselves. ``shares`` and
    ``joins`` are those of the whole server.
    """

    def __init__(self, terms: Terms, owner: TunnelOwner, shares: Shares, joins: Joins) -> None:
        self.name = terms.name
        self.version = terms.version
        self.is_encrypted = terms.is_encrypted
        self.rules = terms.rules
        self.requests = terms.requests
        self.succession = terms.succession
        self.meter = terms.meter
        """As in the terms, until the client's token changes. Visitors count against the
        one that was in force when they came."""
        self.owner = owner
        self.turn = TunnelTurn()
        self.round_trip = 0.0
        """The last measured round trip to the client, in seconds."""
        self.ended: str | None = None
        self.verdict: RefusedError | None = None
        """Why the server ended the tunnel against its client's will, if it did."""
        self.joins = Joins()
        self.listeners: list[Listener] = []
        """The listeners of a TCP tunnel. They stop with it, since the next tunnel may
        listen at once."""
        self._admit = terms.admit
        self._places: dict[Join, Place] = {}
        self.refusals = Refusals()
        """The refused requests that the client has not been told of."""
        self._kept: KeptConnections | None = None
        self._pool = Pool(terms.max_waiting, self._suspected)
        self._returns = Returns(terms.readmission, self._park_again) if terms.readmission is not None else None
        self._all_joins = joins
        self._demand = Demand(shares, owner.resize) if terms.version.speaks_freely else None

    def __repr__(self) -> str:
        return f"<Tunnel {self.name} {self._pool!r} joins={len(self.joins)} {self.ended or 'open'}>"

    @property
    def size(self) -> int:
        """The number of connections that an LTP/0.3 client is asked to park."""
        return self._demand.size if self._demand is not None else 0

    @property
    def parked(self) -> int:
        """The number of proxy connections that wait for a visitor."""
        return len(self._pool)

    @property
    def waiting(self) -> int:
        """The number of visitors that wait for a proxy connection."""
        return self._pool.waiting

    @property
    def kept_count(self) -> int:
        """The number of joined connections that are kept idle."""
        return len(self._kept) if self._kept is not None else 0

    @property
    def kept(self) -> KeptConnections:
        """The joined connections that are kept between two exchanges."""
        if self._kept is None:
            self._kept = KeptConnections(self._returns)
            if self.ended is not None:
                self._kept.close()
        return self._kept

    @property
    def returning(self) -> int:
        """The number of proxy connections on their way back to the pool."""
        return len(self._returns) if self._returns is not None else 0

    @property
    def recycles(self) -> bool:
        """Whether proxy connections come back to the pool."""
        return self._returns is not None

    def park(self, end: SocketEnd, place: Place | None = None) -> None:
        """Take ownership of a proxy connection, and of its place in the quota."""
        self._pool.park(end, place)

    def _park_again(self, end: SocketEnd, place: Place) -> None:
        """Park a connection that has come back, unless there are enough without it."""
        if self._demand is not None:
            self._demand.came_back()
        if len(self._pool) >= 2 * self.size and not self._pool.waiting:
            end.close()
            place.release()
        else:
            self._pool.park(end, place)

    def open(self, join: Join, deadline: Deadline) -> None:
        """Take ownership of ``join``, and bind it to a proxy connection.

        If the client has not taken it by ``deadline``, the join is refused. Never
        blocks.
        """
        try:
            place = self._admit()
        except LimitReached:
            error = PoolExhausted("The tunnel has reached its limit of visitors; try again in a moment.")
            join.refuse(error)
            self.refused(error)
            return
        if place is not None:
            self._places[join] = place
        if self._demand is not None:
            self._demand.visited = join.started
        self.joins.add(join)
        self._all_joins.add(join)
        join.own(self._join_ended)
        join.meter = self.meter
        join.half_closed = self._all_joins.half_closed
        join.returns = self._returns
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
        """Note that a joined connection was found dead: others may be dead too."""
        self._pool.suspect_all()

    def refused(self, error: VisitorError) -> None:
        """Count a request that the server answered with ``error``."""
        self.refusals.add(error)
        self.owner.turned_away(self.refusals)

    def measured(self, seconds: float) -> None:
        """Note the round trip to the client."""
        self.round_trip = seconds

    def tick(self) -> None:
        """Close connections that are too old, and report refusals.

        To be called every few seconds.
        """
        if self._demand is not None and self.ended is None:
            self._pool.expire()
            self._demand.look()
        if self.refusals and self.ended is None:
            self.owner.turned_away(self.refusals)

    def drain(self) -> None:
        """Have no proxy connection come back: the server stops."""
        if self._returns is not None:
            self._returns.drain()

    def end(self, reason: str) -> None:
        """Close the pool, and turn waiting visitors away.

        Idempotent; the first reason counts.
        """
        if self.ended is not None:
            return
        self.ended = reason
        for listener in self.listeners:
            listener.stop()
        # They hold the tunnel, and a cycle would wait for the garbage collector.
        self.listeners.clear()
        if self._demand is not None:
            self._demand.close()
        self._pool.close()
        if self._returns is not None:
            self._returns.close()
        if self._kept is not None:
            self._kept.close()
        self.owner.ended(reason, self.verdict)

    def revoke(self, verdict: RefusedError) -> None:
        """End the tunnel and its joins: its client has lost the right to it.

        Idempotent.
        """
        if self.ended is None:
            self.verdict = verdict
            # Visitors that wait for the next tunnel of the name are refused before the
            # others are cut.
            self.succession.settle()
            self.end(verdict.code)
            self.joins.abort_all(verdict.code)

    def _suspected(self) -> None:
        """A connection was dead without a sign of it: kept ones may be dead too."""
        if self._kept is not None:
            self._kept.release()
        self.owner.renew(self._pool)

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
