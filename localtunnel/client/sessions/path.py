"""Noticing that the way to the server has changed: another network, another interface, another address of our own.

Connections that were made before may be dead in silence then, and a parked one may not be tried out: the server takes
one that says something for dead. Asking the kernel for its route costs four system calls and sends nothing.
"""

from enum import Enum

from localtunnel.net.dial import Address
from localtunnel.net.sockets import Socket, is_of_this_machine, source_towards


class Change(Enum):
    """What has become of the way."""

    MOVED = "moved"
    """New connections are made from another address than those of before."""

    GONE = "gone"
    """This machine has lost the address of its control connection, which nothing can reach any more."""


class Path:
    """The way that the control connection ``control`` to ``backend`` goes; ``look`` is to be called on every tick."""

    def __init__(self, control: Socket, backend: Address) -> None:
        self._backend = backend
        self._own = control.getsockname()
        self._source: str = self._own[0]
        self._last = self._source

    def look(self) -> Change | None:
        """Return what has changed since the last look, if anything has.

        A way has moved when two looks agree: an interface that comes up may change its mind, and two that take turns
        are no reason to park anew every second. While there is no route nothing has changed: a network that comes back
        with the same address finds every connection as it was.
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
