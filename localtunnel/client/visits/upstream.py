"""The upstream: its addresses, and dialling it."""

import gevent

from localtunnel.errors import NetworkError
from localtunnel.net.address import Target
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, dial, dial_at_once, resolve
from localtunnel.net.sockets import Socket


class Upstream:
    """Dials the target, and tries the address first that answered last."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._target = target
        self._timeout = timeout
        self._addresses: list[Address] = []
        self._resolving = False

    def __str__(self) -> str:
        return self._target.text

    def resolve(self) -> None:
        """Resolve the target's name, blocking the greenlet. Raises a NetworkError;
        ``dial`` then fails in its turn."""
        self._addresses = resolve(self._target.hosts, self._target.port, Deadline(self._timeout))

    def dial_at_once(self) -> Socket | None:
        """Return a connection to the target if that takes no wait, or None: the caller
        uses ``dial`` then."""
        return dial_at_once(self._addresses[0]) if self._addresses else None

    def dial(self) -> Socket:
        """Block the greenlet until the target is connected; the caller closes the
        socket. Raises a NetworkError."""
        try:
            sock, address = dial(self._addresses, Deadline(self._timeout))
        except NetworkError:
            if not self._resolving:
                self._resolving = True
                gevent.spawn(self._resolve_again)
            raise
        if address != self._addresses[0]:
            self._addresses = [address, *(other for other in self._addresses if other != address)]
        return sock

    def _resolve_again(self) -> None:
        """Look the name up again after a failure, for later visitors: it may have
        moved."""
        try:
            self.resolve()
        except NetworkError:
            return
        finally:
            self._resolving = False
