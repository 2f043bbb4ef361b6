"""One name, its pool and its joins."""

import logging
import time
from collections.abc import Callable

import gevent

from localtunnel.errors import PoolExhausted
from localtunnel.net.deadline import Deadline
from localtunnel.net.relay import SocketEnd
from localtunnel.server.join import Join, Joins
from localtunnel.server.pool import Pool

log = logging.getLogger("localtunnel.server")


class Tunnel:
    """What visitors of one name go through. It ends with its control connection; its joins end by themselves.

    ``on_end(reason)`` is called once, when the tunnel ends from the outside, for its control connection to close.
    """

    def __init__(self, name: str, client: str, peer: str, max_waiting: int, joins: Joins) -> None:
        self.name = name
        self.client = client
        self.peer = peer
        self.opened = time.monotonic()
        self.ended: str | None = None
        self.on_end: Callable[[str], None] = lambda reason: None
        self.joins = Joins()
        self.visitors = 0
        self._pool = Pool(max_waiting)
        self._all_joins = joins

    def __repr__(self) -> str:
        return f"<Tunnel {self.name} {self._pool!r} joins={len(self.joins)} {self.ended or 'open'}>"

    def park(self, end: SocketEnd, version: bytes) -> None:
        """Take over a proxy connection for visitors to come."""
        self._pool.park(end, version)

    def open(self, join: Join, deadline: Deadline) -> None:
        """Take over ``join`` and bind it to a proxy connection, now if one is parked, else when one comes.

        When none comes by ``deadline``, the join is refused. Never blocks: a join that must wait gets a greenlet.
        """
        self.visitors += 1
        self.joins.add(join)
        self._all_joins.add(join)
        join.own(self._join_ended)
        parked = self._pool.take_now()
        while parked is not None:
            if join.bind(parked):
                return
            parked = self._pool.take_now()
        gevent.spawn(self._open_later, join, deadline)

    def end(self, reason: str) -> None:
        """Close the pool and turn visitors away who wait. May be called twice; only the first reason counts."""
        if self.ended is not None:
            return
        self.ended = reason
        self._pool.close()
        self.on_end(reason)

    def _open_later(self, join: Join, deadline: Deadline) -> None:
        try:
            while join.pending:
                parked = self._pool.take(deadline)
                if join.pending:
                    join.bind(parked)
                else:
                    self.park(parked, parked.version)
        except PoolExhausted as error:
            join.refuse(error)
        finally:
            if join.pending:
                join.abort("internal error")

    def _join_ended(self, join: Join) -> None:
        self.joins.discard(join)
        self._all_joins.discard(join)
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
