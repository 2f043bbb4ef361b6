"""How much one visitor may have: connections and requests of each address, connections of all together.

Each connection takes a ``VisitorPlace`` and leaves it. An address is an IPv4 address or an IPv6 network of 64 bits,
which is what one customer is given. Every step takes a few dictionary operations, whatever the number of addresses.

What is refused. ``enter`` raises; most connections past a limit are then closed without a word, since a flood's answers
would cost more than its connections: ``may_answer`` lets a few of them a second have the reason.

A full server. When all places are taken, a newcomer gets that of an idle connection of whoever holds most, as long as
that is more than a fair share (all places, divided among those who are here) and more than the newcomer would have. So
one address, or a hundred, can fill the server and nobody else is kept out; and who has no more than a share loses
nothing. A request that is being served is never cut.

When descriptors are short. Those that are not below ``descriptors`` are for connections of
clients, which visitors wait for. Before a newcomer has one of them, any idle connection
goes (``give_way``), shares or not; where there is none, the newcomer is refused.
"""

import sys
from collections import OrderedDict
from typing import Protocol

from localtunnel.errors import ServerFull
from localtunnel.networks import Networks, network_of
from localtunnel.server.config import Limits
from localtunnel.server.limits.rates import Bucket, Rate, too_many

MAX_REMEMBERED = 16_384
"""Addresses without a connection whose rates are remembered, about 450 bytes each; the one unseen for longest is
forgotten first, and starts with a full bucket should it return."""

ANSWERS_PER_SECOND = 20.0
"""Refused connections that are told why: enough for people to see the reason, nothing for a flood to live on."""

LOOKED_AT = 4
"""Addresses that are asked for an idle connection when the server is full, and connections of each: those who hold most
come first, and what was found busy comes last the next time."""


class Holder(Protocol):
    """Whoever has a place: the connection of a visitor."""

    def close_idle(self) -> bool:
        """Close the connection if no request of it is under way, and say whether it was closed.

        One whose request has not arrived whole is idle as well: to send it slowly must not keep a place.
        """

    def close_half_closed(self) -> bool:
        """Cut the connection if its visitor has ended its own direction and has got nothing yet; say whether it was.

        Most such visitors have gone, which the kernel tells of after a minute only.
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
    """One open connection of a visitor, counted where it belongs. ``leave`` it when the connection is closed."""

    __slots__ = ("_address", "_admission", "holder")

    def __init__(self, admission: "Admission", address: _Address, holder: Holder) -> None:
        self._admission = admission
        self._address: _Address | None = address
        self.holder = holder

    def request(self, now: float) -> None:
        """Count a request from the connection's own address. Raises ``TooManyRequests``."""
        if self._address is not None and self._address.requests is not None:
            _take(self._address.requests, "requests from your address", now)

    def leave(self) -> None:
        """Give the place up. May be called twice."""
        address, self._address = self._address, None
        if address is not None:
            self._admission.remove(self, address)


class Admission:
    """Admits visitors, within the limits of the server's owner. ``exempt`` have none of their own."""

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
        """Take a place for a new connection from ``host``, which has this ``descriptor``.

        Raises ``TooManyRequests`` when the address has had its share, ``ServerFull`` when nobody can make room; the
        caller answers if it ``may_answer``, and closes the connection.
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
        """Close a connection that is not in use, of any address; say whether there was one."""
        return self._give_up_above(0)

    def request(self, host: str, now: float) -> None:
        """Count a request from ``host``, whom a trusted proxy has named in it. Raises ``TooManyRequests``."""
        if self._request_rate is not None:
            requests = self._find(host).requests
            if requests is not None:
                _take(requests, "requests from your address", now)

    def may_answer(self, now: float) -> bool:
        """Say whether one more of the refused may be told the reason."""
        return self._answers.take(now) == 0

    def remove(self, place: VisitorPlace, address: _Address) -> None:
        """Take ``place`` from ``address``. For ``VisitorPlace``."""
        number = len(address.places)
        del address.places[place]
        self.open -= 1
        self._renumber(address, number, number - 1)
        if number == 1:
            # One that was used keeps its memory, which would be the largest part of what is remembered.
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
        """Let an idle connection of somebody with more than a share be closed; say whether one was."""
        mine = len(newcomer.places)
        share = self._limits.visitors // (len(self._present) + (mine == 0))
        # Last resort: close an idle connection of the newcomer.
        return self._give_up_above(max(share, mine + 1)) or _give_up_one(newcomer)

    def _give_up_above(self, most: int) -> bool:
        """Close a connection that is not in use, of an address with more than ``most``; say whether there was one."""
        left = LOOKED_AT
        for number in sorted(self._by_number, reverse=True):
            if number <= most:
                break
            same = self._by_number[number]
            for address in list(same)[:left]:
                if _give_up_one(address):
                    return True
                # Not the first to be asked the next time: all of its connections may be busy for long.
                del same[address]
                same[address] = None
                left -= 1
            if not left:
                break
        return False


def _give_up_one(address: _Address) -> bool:
    """Close a connection of ``address`` that is idle, or else half closed: the visitor of the first loses nothing."""
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
