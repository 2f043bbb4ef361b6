"""How much one visitor may have: connections and requests by address, and connections
in total.

Each connection takes a ``VisitorPlace`` and leaves it. An address is an IPv4 address or
an IPv6 network of 64 bits, which is what one customer is given. Every step takes a few
dictionary operations, whatever the number of addresses.

What is refused. ``enter`` raises, and most connections past a limit are then closed
without an answer: answering a flood would cost more than its connections.
``may_answer`` lets a few of them a second have the reason.

A full server. When all places are taken, an idle connection of the address with the
most connections is closed for a newcomer. That address must have more than a fair share
(all places, divided by the addresses that are present) and more than the newcomer would
have. So one address, or a hundred, can fill the server and keep no other visitor out,
and an address within its share loses nothing. A request that is being served is never
cut.

When descriptors are short. Descriptors from ``descriptors`` on are for connections of
clients, which visitors wait for. Before a newcomer gets one of them, any idle
connection is closed (``give_way``), whatever its address's share; if there is none, the
newcomer is refused.
"""

import sys
from collections import OrderedDict
from typing import Protocol

from localtunnel.errors import ServerFull
from localtunnel.networks import Networks, network_of
from localtunnel.server.config import Limits
from localtunnel.server.limits.rates import Bucket, Rate, too_many

MAX_REMEMBERED = 16_384
"""Addresses without a connection whose rates are remembered, about 450 bytes each. The
address that was seen longest ago is forgotten first; if it returns, it starts with a
full bucket."""

ANSWERS_PER_SECOND = 20.0
"""Refused connections a second that are told why: enough for people to see the reason,
too few to help a flood."""

LOOKED_AT = 4
"""How many addresses are searched for an idle connection when the server is full, and
how many connections of each. The address with the most comes first; a connection that
was busy comes last the next time."""


class Holder(Protocol):
    """A connection of a visitor, which has a place."""

    def close_idle(self) -> bool:
        """Close the connection unless it has a request; say whether it was closed.

        A connection whose request has not arrived whole is idle as well: sending it
        slowly must not keep a place.
        """

    def close_half_closed(self) -> bool:
        """Cut a connection that is half closed and has no answer; say whether it was.

        Most such visitors have gone, but the kernel reports it only after a minute.
        """


class _Address:
    """What is known about one address."""

    __slots__ = ("connections", "exempt", "key", "places", "requests")

    def __init__(self, key: str, *, exempt: bool, connections: Bucket | None, requests: Bucket | None) -> None:
        self.key = key
        self.exempt = exempt
        self.connections = connections
        self.requests = requests
        self.places: dict[VisitorPlace, None] = {}


class VisitorPlace:
    """One open connection of a visitor, counted for its address until it ``leave``s."""

    __slots__ = ("_address", "_admission", "holder")

    def __init__(self, admission: "Admission", address: _Address, holder: Holder) -> None:
        self._admission = admission
        self._address: _Address | None = address
        self.holder = holder

    def request(self, now: float) -> None:
        """Count a request from the connection's address. Raises TooManyRequests."""
        if self._address is not None and self._address.requests is not None:
            _take(self._address.requests, "requests from your address", now)

    def leave(self) -> None:
        """Give the place up. Idempotent."""
        address, self._address = self._address, None
        if address is not None:
            self._admission.remove(self, address)


class Admission:
    """Admits visitors within the operator's limits. ``exempt`` addresses have none."""

    def __init__(self, limits: Limits, exempt: Networks, descriptors: int = sys.maxsize) -> None:
        self._limits = limits
        self._exempt = exempt
        self._descriptors = descriptors
        self._connection_rate = _rate(limits.address_connection_rate)
        self._request_rate = _rate(limits.address_request_rate)
        self._present: dict[str, _Address] = {}
        self._remembered: OrderedDict[str, _Address] = OrderedDict()
        self._by_number: dict[int, dict[_Address, None]] = {}
        self._answers = Bucket(Rate(ANSWERS_PER_SECOND))
        self.open = 0

    def enter(self, host: str, holder: Holder, now: float, descriptor: int = -1) -> VisitorPlace:
        """Take a place for a new connection from ``host`` with this ``descriptor``.

        Raises TooManyRequests when the address is at its limit, and ServerFull when no
        room can be made. The caller answers if it ``may_answer``, and closes the
        connection.
        """
        address = self._find(host)
        self._check(address, now)
        limit = self._limits.visitors
        if not self.may_have(descriptor) or (limit and self.open >= limit and not self._make_room(address)):
            raise ServerFull("The server has reached its limit of visitors; try again in a few seconds.")
        place = VisitorPlace(self, address, holder)
        self._add(place, address)
        return place

    def may_have(self, descriptor: int) -> bool:
        """Say whether a visitor may keep ``descriptor``."""
        return descriptor < self._descriptors

    def give_way(self) -> bool:
        """Close one unused connection of any address; say whether there was one."""
        return self._give_up_above(0)

    def request(self, host: str, now: float) -> None:
        """Count a request that a trusted proxy has from ``host``. Raises
        TooManyRequests.
        """
        if self._request_rate is not None:
            requests = self._find(host).requests
            if requests is not None:
                _take(requests, "requests from your address", now)

    def may_answer(self, now: float) -> bool:
        """Say whether one more refused visitor may be told the reason."""
        return self._answers.take(now) == 0

    def remove(self, place: VisitorPlace, address: _Address) -> None:
        """Take ``place``, which calls this, from ``address``."""
        number = len(address.places)
        del address.places[place]
        self.open -= 1
        self._renumber(address, number, number - 1)
        if number == 1:
            # A dict that was used keeps its memory, which would be most of what is
            # remembered.
            address.places = {}
            del self._present[address.key]
            self._remember(address)

    def _add(self, place: VisitorPlace, address: _Address) -> None:
        number = len(address.places)
        if not number:
            self._remembered.pop(address.key, None)
            self._present[address.key] = address
        address.places[place] = None
        self.open += 1
        self._renumber(address, number, number + 1)

    def _renumber(self, address: _Address, before: int, after: int) -> None:
        if before:
            same = self._by_number[before]
            del same[address]
            if not same:
                del self._by_number[before]
        if after:
            self._by_number.setdefault(after, {})[address] = None

    def _check(self, address: _Address, now: float) -> None:
        if address.exempt:
            return
        limit = self._limits.address_visitors
        if limit and len(address.places) >= limit:
            raise too_many("connections from your address", 1)
        if address.connections is not None:
            _take(address.connections, "new connections from your address", now)

    def _find(self, host: str) -> _Address:
        exempt = host in self._exempt
        key = host if exempt else network_of(host)
        address = self._present.get(key)
        if address is None:
            address = self._remembered.get(key)
            if address is not None:
                self._remembered.move_to_end(key)
            else:
                address = self._new(key, exempt=exempt)
                self._remember(address)
        return address

    def _new(self, key: str, *, exempt: bool) -> _Address:
        if exempt:
            return _Address(key, exempt=True, connections=None, requests=None)
        connections = None if self._connection_rate is None else Bucket(self._connection_rate)
        requests = None if self._request_rate is None else Bucket(self._request_rate)
        return _Address(key, exempt=False, connections=connections, requests=requests)

    def _remember(self, address: _Address) -> None:
        self._remembered[address.key] = address
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _make_room(self, newcomer: _Address) -> bool:
        """Close an idle connection of an address with more than its share, if any."""
        mine = len(newcomer.places)
        share = self._limits.visitors // (len(self._present) + (mine == 0))
        # Last resort: close an idle connection of the newcomer.
        return self._give_up_above(max(share, mine + 1)) or _give_up_one(newcomer)

    def _give_up_above(self, most: int) -> bool:
        """Close one unused connection of an address with more than ``most``, if any."""
        left = LOOKED_AT
        for number in sorted(self._by_number, reverse=True):
            if number <= most:
                break
            same = self._by_number[number]
            for address in list(same)[:left]:
                if _give_up_one(address):
                    return True
                # Search it last the next time: all of its connections may stay busy.
                del same[address]
                same[address] = None
                left -= 1
            if not left:
                break
        return False


def _give_up_one(address: _Address) -> bool:
    """Close an idle connection of ``address``, or else a half-closed one, if any."""
    places = address.places
    busy = []
    for _ in range(min(LOOKED_AT, len(places))):
        place = next(iter(places))
        if place.holder.close_idle():
            place.leave()
            return True
        busy.append(place)
        del places[place]
        places[place] = None
    for place in busy:
        if place.holder.close_half_closed():
            place.leave()
            return True
    return False


def _take(tokens: Bucket, what: str, now: float) -> None:
    wait = tokens.take(now)
    if wait:
        raise too_many(what, wait)


def _rate(per_second: float) -> Rate | None:
    return Rate(per_second) if per_second else None
