"""Joined proxy connections that are kept for a moment between two exchanges.

A visitor who comes in that time needs no assignment and no new connection at the
upstream. ``visitors.delivery`` decides which request may use one, and ``http.lending``
which exchange may leave one behind. This module decides how long they are kept, and
when they are given up: they go back to the pool then, or are closed where none does.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from localtunnel.http.lending import LENT, OWN, Fate
from localtunnel.net.deadline import Expiry
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.pump import Owner, Side
from localtunnel.net.sockets import is_acknowledged, smoothed_round_trip
from localtunnel.protocol.limits import GOT_ROUND_TRIPS, GOT_TIMEOUT
from localtunnel.server.tunnels.returns import Returns, Told

KEPT_IDLE = 1.0
"""Seconds that a joined connection is kept idle. Gunicorn closes one after 2, and Node
after 5; a request that meets the close costs a second try. While it is kept, it also
occupies an upstream that serves one connection at a time."""

OVERDUE = 0.1
"""Seconds without an answer on a fresh connection after which the idle ones are given
up: an upstream that serves one connection at a time may be waiting for their end."""


class Sent(Owner, Protocol):
    """A request that was sent on a joined connection."""

    def is_lost(self) -> bool | None:
        """Say whether the request never arrived, and act on it.

        None if it is too early to tell.
        """


class KeptConnection(Side):
    """A joined proxy connection: one side of one exchange after another."""

    __slots__ = ("fate", "kept")

    owner: Sent

    def __init__(self, end: End, kept: "KeptConnections") -> None:
        super().__init__(end)
        self.kept = kept
        """The kept connections of its tunnel, which it joins between two exchanges."""
        self.fate: Fate = LENT
        """What became of it after its last exchange."""

    @property
    def offset(self) -> int:
        """The bytes of its stream that were written so far."""
        return self.end.written

    def is_lost(self, seconds: float) -> bool | None:
        """Say whether a request of ``seconds`` ago never arrived.

        Returns None if it is too early to tell. The wait for the acknowledgement is
        that for ``got``, and GOT_TIMEOUT more: the kernel repeats a lost segment after
        200 ms at the earliest.
        """
        sock = self.end.sock
        if not self.backlog and is_acknowledged(sock):
            return False
        patience = GOT_TIMEOUT + max(GOT_TIMEOUT, GOT_ROUND_TRIPS * smoothed_round_trip(sock))
        return True if seconds >= patience else None

    def became_readable(self) -> None:
        """Give it up: the upstream has closed, or sends what nobody has asked for."""
        self.kept.drop(self)


class KeptConnections:
    """The kept connections of one tunnel, the newest first."""

    def __init__(self, returns: Returns | None = None) -> None:
        """Connections that are kept no longer go to ``returns``."""
        self._returns = returns
        self._kept: dict[KeptConnection, None] = {}
        self._idle: Expiry[KeptConnection] = Expiry(KEPT_IDLE, self._expired)
        """Connections that were kept in the last second. One that is in use stays in
        here, since it is added again soon."""
        self._unanswered: Expiry[Hashable] = Expiry(OVERDUE, self._overdue)
        self._unheard: Expiry[KeptConnection] = Expiry(GOT_TIMEOUT, self._look)
        """Connections with a recent request, answered or not: removing each one would
        cost more."""
        self._closed = False
        self._own: dict[KeptConnection, Callable[[], None]] = {}
        """Idle connections that belong to one visitor each, the oldest first, and the
        callback that takes each away."""
        self._pinned: dict[KeptConnection, Callable[[], None]] = {}
        """The same of those on which a visitor has logged in."""
        self._late: set[Hashable] = set()
        self._owed = False
        """Whether the next connection is to be given up instead of kept, for a late
        exchange."""

    def __len__(self) -> int:
        return len(self._kept)

    def take(self) -> KeptConnection | None:
        """Return the connection that was kept last, or None.

        The caller then owns it. Connections on which something has come are given up.
        """
        while self._kept:
            carrier, _ = self._kept.popitem()
            # The watcher reports a byte or an end only in the next turn of the hub.
            if carrier.end.is_quiet:
                return carrier
            self.give_back(carrier)
        return None

    def keep(self, carrier: KeptConnection) -> None:
        """Take ownership of ``carrier``, which has nothing in flight."""
        if self._closed or (self._owed and self._gives_way()):
            self.give_back(carrier)
            return
        self._kept[carrier] = None
        self._idle.add(carrier)
        carrier.watch_for(carrier.became_readable)

    def keep_for(self, carrier: KeptConnection, take_away: Callable[[], None]) -> bool:
        """Take note of ``carrier``, which a visitor keeps, if it may be kept.

        ``take_away()`` is called when its time is over, or when something comes on it;
        it is the visitor's until ``forget``.
        """
        if self._closed or (self._owed and carrier.fate is OWN and self._gives_way()):
            return False
        if carrier.fate is OWN:
            self._own[carrier] = take_away
            self._idle.add(carrier)
        else:
            self._pinned[carrier] = take_away
        carrier.watch_for(take_away)
        return True

    def forget(self, carrier: KeptConnection) -> None:
        """Forget ``carrier``, which a visitor has kept and now uses, or gives up."""
        del (self._own if carrier.fate is OWN else self._pinned)[carrier]

    def drop(self, carrier: KeptConnection) -> None:
        """Give up ``carrier``, which is kept."""
        del self._kept[carrier]
        self.give_back(carrier)

    def give_back(self, carrier: KeptConnection, told: Told | None = None) -> None:
        """Take ownership of ``carrier``, which is kept for nobody: it ends, or goes
        back to the pool. ``told`` as in ``Returns.take``, for one that is OWN: there
        are none where no connection comes back."""
        if self._returns is None:
            carrier.close(reset=False)
            return
        carrier.closed = True
        carrier.unbind()
        self._returns.take(carrier.end, told)

    def make_room(self) -> None:
        """Give up the oldest kept connection: a fresh one is about to be joined.

        None that is a visitor's own: that visitor would need a fresh one next, in place
        of another's own, and so on for as long as they come.
        """
        if self._kept:
            self.drop(next(iter(self._kept)))

    def release(self) -> None:
        """Give up all kept connections, but those on which a visitor has logged in."""
        for carrier in list(self._kept):
            self.drop(carrier)
        for take_away in list(self._own.values()):
            take_away()

    def await_answer(self, exchange: Hashable) -> None:
        """Give up the idle connections if ``exchange`` is not ``answered`` in time."""
        self._unanswered.add(exchange)

    def await_acknowledgement(self, carrier: KeptConnection) -> None:
        """Check in a moment whether the request on ``carrier`` has arrived.

        It may be dead.
        """
        self._unheard.add(carrier)

    def answered(self, exchange: Hashable) -> None:
        """Stop waiting for ``exchange``: its answer has begun, or will never come.

        Idempotent.
        """
        self._unanswered.discard(exchange)
        self._late.discard(exchange)

    def close(self) -> None:
        """Give up all kept connections, and keep none from now on. Idempotent.

        Connections in use stay open.
        """
        self._closed = True
        self.release()
        for take_away in list(self._pinned.values()):
            take_away()
        self._idle.close()
        self._unanswered.close()
        self._late.clear()

    def _gives_way(self) -> bool:
        """Whether the connection that is owed to a late exchange is still wanted."""
        self._owed = False
        return bool(self._late)

    def _expired(self, carrier: KeptConnection) -> None:
        if carrier in self._kept:
            self.drop(carrier)
        elif carrier in self._own:
            self._own[carrier]()

    def _look(self, carrier: KeptConnection) -> None:
        if carrier.bound and carrier.owner.is_lost() is None:
            self._unheard.add(carrier)

    def _overdue(self, exchange: Hashable) -> None:
        """The answer on a fresh connection is late.

        It may be waiting for the end of an idle connection. If none is idle now, one in
        use may be meant, and visitors who follow one another might never leave it idle.
        """
        self._late.add(exchange)
        self._owed = not (self._kept or self._own)
        self.release()
        self._unanswered.add(exchange)
