"""The local server that visitors are connected to: where it is, and dialling it."""

from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.errors import NetworkError
from localtunnel.net.address import Target
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, Dial, resolve

Connected = Callable[[Any, Address | None, NetworkError | None], None]


class Upstream:
    """Dials the target; the address that answered last is tried first the next time."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._target = target
        self._timeout = timeout
        self._addresses: list[Address] = []
        self._resolving = False

    def __str__(self) -> str:
        return self._target.text

    def resolve(self) -> None:
        """Resolve the target's name, blocking the greenlet. Raises a NetworkError; ``dial`` then fails in its turn."""
        self._addresses = resolve(self._target.hosts, self._target.port, Deadline(self._timeout))

    def dial(self, done: Connected) -> Dial:
        """Connect in the background; ``done`` is ``net.dial.Dial``'s, whose socket is the receiver's to close."""

        def settled(sock: Any, address: Address | None, error: NetworkError | None) -> None:
            if address is not None and address != self._addresses[0]:
                self._addresses = [address, *(other for other in self._addresses if other != address)]
            elif error is not None and not self._resolving:
                self._resolving = True
                gevent.spawn(self._resolve_again)
            done(sock, address, error)

        attempt = Dial(self._addresses, self._timeout, settled)
        attempt.start()
        return attempt

    def _resolve_again(self) -> None:
        """A name may have moved: look it up anew after a failure, for the visitors to come."""
        try:
            self.resolve()
        except NetworkError:
            return
        finally:
            self._resolving = False
