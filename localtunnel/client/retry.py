"""When a client tries again: after a delay that grows, and at once when the network has
come back."""

import random
from collections.abc import Callable, Sequence

import gevent

from localtunnel.client.config import Timeouts
from localtunnel.errors import Flooded, LocaltunnelError
from localtunnel.net.dial import Address, literals
from localtunnel.net.sockets import source_towards
from localtunnel.protocol import limits

HEALTHY = limits.HEARTBEAT_INTERVAL
"""A session that lasted this many seconds was healthy: the next attempt comes at
once."""

FLOODED_SPREAD = 1.5
"""The clients of a server that was flooded come back within so many times the pause,
not all at once."""

LOOK_INTERVAL = 1.0
"""Seconds between two checks of the network while the client waits. A person who plugs
in the cable does not notice the delay, and a check costs four system calls for each
address."""

SOMEWHERE = tuple(literals("192.0.2.1", 9) + literals("2001:db8::1", 9))
"""Reserved addresses (RFC 5737, RFC 3849). While there is no network, the server's
address cannot be resolved; a route to these tells that there is one again. Nothing is
sent."""

Routes = Sequence[str | None]


def routes_to(addresses: Sequence[Address]) -> Routes:
    """Return the address of this machine from which each would be reached, None without
    a route."""
    return [source_towards(address.family, address.sockaddr) for address in addresses]


class Retry:
    """The delays between the attempts of one client, and the wait for each."""

    def __init__(self, timeouts: Timeouts, look: Callable[[Sequence[Address]], Routes] = routes_to) -> None:
        self._timeouts = timeouts
        self._look = look
        self._failures = 0
        self._towards: Sequence[Address] = SOMEWHERE
        self._routes: Routes = ()

    def begin(self, towards: Sequence[Address]) -> None:
        """Note the state of the network before an attempt. ``towards`` is the server,
        as far as it is known.

        Changes while the attempt fails count as well.
        """
        self._towards = (*towards, *SOMEWHERE)
        self._routes = self._look(self._towards)

    def delay(self, lasted: float, error: LocaltunnelError) -> float:
        """Return the seconds to wait after a session that ``lasted`` so long and ended
        with ``error``.

        The delay is random, between half of a limit and the limit, so that the clients
        of one server spread. The limit doubles with each failure.
        """
        if isinstance(error, Flooded):
            return limits.FLOODED_PAUSE * random.uniform(1, FLOODED_SPREAD)
        if lasted >= HEALTHY:
            self._failures = 0
            return 0.0
        timeouts = self._timeouts
        limit = min(timeouts.retry_longest, timeouts.retry_first * 2 ** min(self._failures, 32))
        self._failures += 1
        return random.uniform(limit / 2, limit)

    def wait(self, seconds: float, error: LocaltunnelError) -> None:
        """Block the greenlet for ``seconds``, or until the network is back or has
        changed; then delays begin anew.

        After a flood it waits for the whole pause.
        """
        if isinstance(error, Flooded):
            gevent.sleep(seconds)
            return
        while not self._network_is_back():
            pause = min(seconds, LOOK_INTERVAL)
            gevent.sleep(pause)
            seconds -= pause
            if seconds <= 0:
                return
        self._failures = 0

    def _network_is_back(self) -> bool:
        """Return whether there is a route that was not there at the last check."""
        before, self._routes = self._routes, self._look(self._towards)
        return any(now is not None and now != then for now, then in zip(self._routes, before, strict=False))
