"""The visitors that are being served: they outlive the session in which they came."""

import itertools
import time
from collections.abc import Callable

from localtunnel.client.events import Event, RequestFollowed, UpstreamFailed, VisitorJoined, VisitorLeft
from localtunnel.client.upstream import Upstream
from localtunnel.client.visit import Visit
from localtunnel.errors import NetworkError
from localtunnel.net.closing import Lingering
from localtunnel.net.sockets import Socket
from localtunnel.protocol import messages
from localtunnel.protocol.codec import encode
from localtunnel.protocol.messages import Assignment, Failed


class Visits:
    """Begins every visit and reports what becomes of it."""

    def __init__(self, upstream: Upstream, report: Callable[[Event], None]) -> None:
        self._upstream = upstream
        self._report = report
        self.lingering = Lingering()
        self._numbers = itertools.count(1)
        self._visits: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._visits)

    def begin(self, sock: Socket, assignment: Assignment | None, first: bytes) -> None:
        """Take over an assigned proxy connection."""
        visit = Visit(next(self._numbers), sock, assignment, first, self._upstream, self)
        self._visits.add(visit)
        visit.start()

    def refuse_seen(self, sock: Socket, assignment: Assignment) -> None:
        """Tell the server that an assignment was taken before, and close ``sock``: nobody is delivered twice."""
        self.lingering.send_last(sock, encode(Failed(assignment.id, messages.SEEN)))

    def end(self, reason: str) -> None:
        """Reset every visitor's connection, and close those that linger."""
        for visit in list(self._visits):
            visit.abort(reason)
        self.lingering.end()

    def visit_joined(self, visit: Visit) -> None:
        """Report a visitor that reached the upstream."""
        self._report(VisitorJoined(visit.number, visit.peer, visit.request_line))

    def visit_followed(self, visit: Visit, request_line: str) -> None:
        """Report one more request on a visit's connection."""
        self._report(RequestFollowed(visit.number, request_line))

    def visit_failed(self, visit: Visit, error: NetworkError) -> None:
        """Report a visitor that did not."""
        self._report(UpstreamFailed(visit.number, str(self._upstream), error.code, str(error)))

    def visit_ended(self, visit: Visit) -> None:
        """Report and forget a visitor that has gone."""
        self._visits.discard(visit)
        seconds = time.monotonic() - visit.started
        self._report(VisitorLeft(visit.number, visit.received, visit.sent, seconds, visit.reason or "closed"))
