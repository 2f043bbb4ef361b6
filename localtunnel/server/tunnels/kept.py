"""Joined proxy connections between two exchanges: kept for a moment, and used again for the same tunnel.

A visitor who comes while one is kept needs no assignment and no new connection at the upstream. Which exchange may use
one is ``exchange``'s to say, and which may leave one behind ``http.lending``'s; how long they are kept, and when they
go, is said here.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from localtunnel.net.deadline import Expiry
from localtunnel.net.flow.ends import End
from localtunnel.net.flow.pump import Owner, Side
from localtunnel.net.sockets import is_acknowledged, smoothed_round_trip
from localtunnel.protocol.limits import GOT_ROUND_TRIPS, GOT_TIMEOUT

KEPT_IDLE = 1.0
"""Seconds that a joined connection is kept idle: gunicorn closes one after 2, and Node after 5 (a request that meets
its closing costs a second try), and as long as it is kept it has a place in an upstream that serves one at a time."""

OVERDUE = 0.1
"""Seconds without an answer on a fresh connection after which the idle ones are let go: an upstream that serves one
connection at a time reaches the new one only when we have closed the old one."""


class Sent(Owner, Protocol):
    """A request that has gone out on a joined connection."""

    def is_lost(self) -> bool | None:
        """Say whether the request never arrived, and act on it; None where it is too early to tell."""


class KeptConnection(Side):
    """A joined proxy connection: one side of one exchange after the other."""

    __slots__ = ("kept", "personal")

    owner: Sent

    def __init__(self, end: End, kept: "KeptConnections") -> None:
        super().__init__(end)
        self.kept = kept
        """Those of its tunnel, of which it is one between two exchanges."""
        self.personal = False
        """Whether a visitor has logged in on it: then it is that visitor's until it is closed."""

    def is_lost(self, seconds: float) -> bool | None:
        """Say whether what was sent ``seconds`` ago never arrived, None where it is too early to tell.

        As long is waited for the acknowledgement as for ``got``, and for GOT_TIMEOUT
        more: the kernel sends a lost segment again after 200 ms at the earliest.
        """
        sock = self.end.sock
        if not self.backlog and is_acknowledged(sock):
            return False
        patience = GOT_TIMEOUT + max(GOT_TIMEOUT, GOT_ROUND_TRIPS * smoothed_round_trip(sock))
        return True if seconds >= patience else None

    def became_readable(self) -> None:
        """While it is kept, an upstream that says anything has closed or is confused: either way this is the end."""
        self.kept.drop(self)


class KeptConnections:
    """The kept connections of one tunnel, the newest first."""

    def __init__(self) -> None:
        self._kept: dict[KeptConnection, None] = {}
        self._idle: Expiry[KeptConnection] = Expiry(KEPT_IDLE, self._expired)
        """Those that were kept in the last second. One that is in use stays in here, since it is added again soon."""
        self._unanswered: Expiry[Hashable] = Expiry(OVERDUE, self._overdue)
        self._unheard: Expiry[KeptConnection] = Expiry(GOT_TIMEOUT, self._look)
        """Those on which a request has gone out lately, answered or not: to forget each one would cost more."""
        self._closed = False
        self.personal: dict[KeptConnection, Callable[[], None]] = {}
        """Those that are idle in the hands of one visitor each, and what takes them away."""
        self._late: set[Hashable] = set()
        self._owed = False
        """Whether the next one is to be let go instead of kept, for one of the late ones."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def closed(self) -> bool:
        """Whether the tunnel has ended, and with it everything that was kept for it."""
        return self._closed

    def carry(self, end: End) -> KeptConnection:
        """Return a fresh carrier for ``end``; it is the caller's."""
        return KeptConnection(end, self)

    def take(self) -> KeptConnection | None:
        """Return the connection that was kept last and may go on, which is the caller's then, or None.

        Those that may not are closed.
        """
        while self._kept:
            carrier, _ = self._kept.popitem()
            # Its watcher would tell of a byte or an end only in the hub's next turn.
            if carrier.end.is_quiet:
                return carrier
            carrier.close(reset=False)
        return None

    def keep(self, carrier: KeptConnection) -> None:
        """Take ``carrier`` over, with nothing in flight on it."""
        if self._closed or (self._owed and self._late):
            self._owed = False
            carrier.close(reset=False)
            return
        self._kept[carrier] = None
        self._idle.add(carrier)
        carrier.watch_for(carrier.became_readable)

    def drop(self, carrier: KeptConnection) -> None:
        """Close ``carrier``, which is kept."""
        del self._kept[carrier]
        carrier.close(reset=False)

    def make_room(self) -> None:
        """A fresh connection is about to be joined: let the oldest kept one go for it."""
        if self._kept:
            self.drop(next(iter(self._kept)))

    def release(self) -> None:
        """Let every kept connection go."""
        for carrier in list(self._kept):
            self.drop(carrier)

    def await_answer(self, exchange: Hashable) -> None:
        """Let idle connections go for ``exchange``, on a fresh one, if it is not ``answered`` in time."""
        self._unanswered.add(exchange)

    def await_acknowledgement(self, carrier: KeptConnection) -> None:
        """Look in a moment whether the request on ``carrier`` has arrived: what was kept may be dead in silence."""
        self._unheard.add(carrier)

    def answered(self, exchange: Hashable) -> None:
        """Forget ``exchange``, which was to ``await_answer``: that has begun, or will never come. Idempotent."""
        self._unanswered.discard(exchange)
        self._late.discard(exchange)

    def close(self) -> None:
        """Let everything go, now and later, but for what is on its way. May be called twice."""
        self._closed = True
        self.release()
        for unpin in list(self.personal.values()):
            unpin()
        self._idle.close()
        self._unanswered.close()
        self._late.clear()

    def _expired(self, carrier: KeptConnection) -> None:
        if carrier in self._kept:
            self.drop(carrier)

    def _look(self, carrier: KeptConnection) -> None:
        if carrier.bound and carrier.owner.is_lost() is None:
            self._unheard.add(carrier)

    def _overdue(self, exchange: Hashable) -> None:
        """The answer on a fresh connection is late: what is kept idle may be what it waits for.

        Where none is idle now, one that is in use may be, and visitors who follow one another may never let it be.
        """
        self._late.add(exchange)
        self._owed = not self._kept
        self.release()
        self._unanswered.add(exchange)
