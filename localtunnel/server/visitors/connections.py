"""Every open connection of the HTTP edge, and how long each may take.

It is below ``connection``, which is told here what it shares with all the others.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from localtunnel.errors import VisitorError
from localtunnel.http.message.request import RequestHead
from localtunnel.net.closing import Lingering
from localtunnel.net.deadline import Deadline, Expiry
from localtunnel.net.flow.hangups import HangUps
from localtunnel.server.config import ServerConfig

LISTEN_AFTER = 0.2
"""Seconds that a request waits for its turn and its connection before the server
listens for its visitor's end. Nearly all requests wait for one round trip only, and
listening costs a few system calls."""


class Waiting(Hashable, Protocol):
    """A request without a proxy connection: nothing is read from its visitor."""

    def listen(self) -> None:
        """Notice from now on when the visitor goes."""


class Open(Hashable, Protocol):
    """A visitor's connection, as far as it is looked after here."""

    def head_overdue(self) -> None:
        """Refuse a head that has not come in time."""

    def idle_overdue(self) -> None:
        """Close the connection if nothing has come for a while."""

    def close_idle(self) -> bool:
        """Close the connection unless it has a request; say whether it was closed."""


C = TypeVar("C", bound=Open)


class Connections(Generic[C]):
    """The open connections, and what they share.

    ``on_request(connection, head, rest, deadline)`` has a request answered, or raises a
    VisitorError; ``deadline`` is that of a request that was here before.
    ``error_page(error, head)`` returns what the visitor is told of the error.
    """

    def __init__(
        self,
        config: ServerConfig,
        lingering: Lingering,
        hang_ups: HangUps,
        on_request: Callable[[C, RequestHead, memoryview, Deadline | None], None],
        error_page: Callable[[VisitorError, RequestHead | None], bytes],
    ) -> None:
        self.max_head = config.limits.head_bytes
        self.lingering = lingering
        self.on_request = on_request
        self.error_page = error_page
        self.hang_ups = hang_ups
        self.open: set[C] = set()
        self.heads: Expiry[C] = Expiry(config.timeouts.head, lambda connection: connection.head_overdue())
        self.idle: Expiry[C] = Expiry(config.timeouts.keep_alive, lambda connection: connection.idle_overdue())
        """Connections that have been idle lately. One stays in here during its next
        request, after which it is added again."""
        self.waiting: Expiry[Waiting] = Expiry(LISTEN_AFTER, lambda request: request.listen())
        self.stopping = False

    def __len__(self) -> int:
        return len(self.open)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self.open))

    def stop(self) -> None:
        """Close every connection without a whole request; the others close later."""
        self.stopping = True
        for connection in self:
            connection.close_idle()
        self.heads.close()
        self.idle.close()
        self.waiting.close()
