"""Noticing that the path to the server has changed: the network, the interface, or this
machine's address.

Earlier connections may then be silently dead. A parked one cannot be tested: the server
treats one that sends bytes as dead. Asking the kernel for its route costs four system
calls and sends nothing.
"""

from enum import Enum

from localtunnel.net.dial import Address
from localtunnel.net.sockets import Socket, is_of_this_machine, source_towards


class Change(Enum):
    """How the path has changed."""

    MOVED = "moved"
    """New connections come from another address than earlier ones."""

    GONE = "gone"
    """This machine has lost the address of its control connection, which is dead
    therefore."""


class Path:
    """The path of the control connection ``control`` to ``backend``. The owner calls
    ``look`` on every tick."""

    def __init__(self, control: Socket, backend: Address) -> None:
        self._backend = backend
        self._own = control.getsockname()
        self._source: str = self._own[0]
        self._last = self._source

    def look(self) -> Change | None:
        """Return the change since the last look, None for none.

        A path has moved when two looks agree: an interface that comes up may change its
        route again, and two that take turns are not a reason to renew the pool every
        second. No route is not a change: after a network comes back with the same
        address, every connection still works.
        """
        source = source_towards(self._backend.family, self._backend.sockaddr)
        if source is None:
            return None
        if source != self._own[0] and not is_of_this_machine(self._backend.family, self._own):
            return Change.GONE
        last, self._last = self._last, source
        if source == self._source or source != last:
            return None
        self._source = source
        return Change.MOVED
