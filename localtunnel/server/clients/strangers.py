"""Limits connections of clients whose identity is not proved, and picks which one
yields.

Each costs a socket and a timer, and anybody can open them. A newcomer is therefore
never turned away: it gets the place of the oldest connection of the address that holds
most. An honest client needs its place for a round trip or two, and is gone before it is
the oldest. A silent one stays, and yields. Some places are kept for addresses with a
tunnel or a lease, so that a flood from elsewhere leaves room for clients that
reconnect.
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
"""One in so many places is kept for addresses that the server knows: a thousand of the
default 4,096, as many as one address may have."""

LOOKED_AT = 8
"""How many of the oldest connections are compared when one has to go. A silent flood
makes up nearly all of those, and eight looks cost a microsecond."""

WARNING_INTERVAL = 60.0
"""Seconds between two warnings that places are taken away, so that a flood does not
fill the log as well."""


class Stranger:
    """The place of one connection.

    Its owner sets ``give_up``, which closes the connection when a newcomer gets the
    place.
    """

    __slots__ = ("_group", "_strangers", "give_up", "known")

    def __init__(self, strangers: "Strangers", group: str, known: bool, give_up: Callable[[], None]) -> None:
        self._strangers: Strangers | None = strangers
        self._group = group
        self.known = known
        self.give_up = give_up

    def release(self) -> None:
        """Free the place. Idempotent."""
        strangers, self._strangers = self._strangers, None
        if strangers is not None:
            strangers.forget(self, self._group)

    def evict(self) -> None:
        """Free the place, and end the connection."""
        self.release()
        self.give_up()


class Strangers:
    """Counts strangers.

    ``is_known(host)`` says whether the server knows the address.
    """

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
        """Return a place for a new connection from ``host``.

        Another connection may have to yield for it.
        """
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
        # A side yields to newcomers of its own kind. Beyond its share, it yields to the
        # other too.
        self._weakest(own if own and len(own) >= share else other).evict()
        self._warn()

    def _weakest(self, places: OrderedDict[Stranger, None]) -> Stranger:
        """Return the one among the oldest of ``places`` whose address holds most."""
        oldest = [place for place, _ in zip(places, range(LOOKED_AT), strict=False)]
        return max(oldest, key=lambda place: len(self._groups[place._group]))

    def _warn(self) -> None:
        now = time.monotonic()
        if now - self._warned >= WARNING_INTERVAL:
            self._warned = now
            log.warning("too many connections without a request, the oldest are closed", extra={"places": self._most})
