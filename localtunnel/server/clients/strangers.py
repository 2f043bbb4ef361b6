"""Connections of clients that have not said, or not proved, who they are: how many, and which of them yield.

They cost a socket and a timer each, and whoever likes can make them. So nobody is turned away for
want of a place: a newcomer gets that of the oldest of those who hold most. Who says what it wants
needs a place for a round trip or two and is gone before it is the oldest; who is silent stays, and
yields. A share is kept for addresses that have a tunnel, or a name that is kept for them: a flood
from elsewhere leaves room for whoever reconnects.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from localtunnel.networks import network_of
from localtunnel.server.config import QuotaLimits
from localtunnel.server.limits.quotas import OFF

log = logging.getLogger("localtunnel.server")

KEPT_SHARE = 4
"""The part of all places, as one in so many, that is kept for addresses that the server knows: a
thousand of the default 4,096, as many as one address may have."""

LOOKED_AT = 8
"""The oldest connections that are compared when one has to go: a silent flood makes up nearly all
of those, and eight looks cost a microsecond."""

WARNING_INTERVAL = 60.0
"""Seconds between two warnings that places are taken away: a flood must not fill the log too."""


class Stranger:
    """One connection's place. ``give_up`` is called when another one gets it; the owner sets what that is."""

    __slots__ = ("_group", "_strangers", "give_up", "known")

    def __init__(self, strangers: "Strangers", group: str, known: bool, give_up: Callable[[], None]) -> None:
        self._strangers: Strangers | None = strangers
        self._group = group
        self.known = known
        self.give_up = give_up

    def release(self) -> None:
        """Give the place back. Idempotent."""
        strangers, self._strangers = self._strangers, None
        if strangers is not None:
            strangers.forget(self, self._group)

    def evict(self) -> None:
        """Give the place back, and end the connection."""
        self.release()
        self.give_up()


class Strangers:
    """Counts them. ``is_known(host)`` says whether the server knows the address."""

    def __init__(self, limits: QuotaLimits, is_known: Callable[[str], bool]) -> None:
        self._most = limits.strangers
        self._most_of_one = limits.strangers_per_address
        self._kept = self._most // KEPT_SHARE
        self._is_known = is_known
        self._known: OrderedDict[Stranger, None] = OrderedDict()
        self._unknown: OrderedDict[Stranger, None] = OrderedDict()
        self._groups: dict[str, OrderedDict[Stranger, None]] = {}
        self._warned = -WARNING_INTERVAL

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def take(self, host: str, give_up: Callable[[], None]) -> Stranger:
        """Return a place for a new connection from ``host``, which may cost another one its own."""
        group = network_of(host)
        known = self._is_known(host)
        self._make_room(group, known)
        place = Stranger(self, group, known, give_up)
        (self._known if known else self._unknown)[place] = None
        self._groups.setdefault(group, OrderedDict())[place] = None
        return place

    def forget(self, place: Stranger, group: str) -> None:
        """Take ``place`` out. For ``Stranger``."""
        del (self._known if place.known else self._unknown)[place]
        same = self._groups[group]
        del same[place]
        if not same:
            del self._groups[group]

    def _make_room(self, group: str, known: bool) -> None:
        same = self._groups.get(group)
        if same is not None and self._most_of_one != OFF and len(same) >= self._most_of_one:
            next(iter(same)).evict()
        own, other = (self._known, self._unknown) if known else (self._unknown, self._known)
        share = self._kept if known else self._most - self._kept
        is_beyond = not known and len(own) >= share
        if self._most == OFF or not (is_beyond or len(self) >= self._most):
            return
        # Each side yields to its own kind; beyond its share, to the other one too.
        self._weakest(own if own and len(own) >= share else other).evict()
        self._warn()

    def _weakest(self, places: OrderedDict[Stranger, None]) -> Stranger:
        """Return, of the oldest of ``places``, the first of whoever has most."""
        oldest = [place for place, _ in zip(places, range(LOOKED_AT), strict=False)]
        return max(oldest, key=self._held_by)

    def _held_by(self, place: Stranger) -> int:
        return len(self._groups[place._group])

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned >= WARNING_INTERVAL:
            self._warned = now
            log.warning("too many connections without a request, the oldest are closed", extra={"places": self._most})
