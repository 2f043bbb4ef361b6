"""All visits being served, which outlive the session that brought them."""

import itertools
import time
from collections.abc import Callable

from localtunnel.client.events import Event, UpstreamFailed, VisitorJoined, VisitorLeft
from localtunnel.client.visits.requests import RequestLog, RequestTap, error_of
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visit import GiveBack, Visit, failure_of
from localtunnel.errors import NetworkError
from localtunnel.net.closing import Lingering
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.sockets import Socket
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import Assignment, Failed
from localtunnel.protocol.wire.codec import encode


class Visits:
    """Begins every visit, and reports its requests, or the visit itself if it has
    none."""

    def __init__(
        self, upstream: Upstream, report: Callable[[Event], None], patience: float = limits.HALF_CLOSED
    ) -> None:
        """A connection may be silent for ``patience`` seconds after one side has
        ended."""
        self._upstream = upstream
        self._report = report
        self.half_closed = HalfClosed(patience)
        self.lingering = Lingering()
        self._requests = RequestLog(report)
        self._numbers = itertools.count(1)
        self._visits: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._visits)

    def begin(
        self,
        sock: Socket,
        assignment: Assignment | None,
        first: bytes,
        give_back: GiveBack | None = None,
        *,
        real_ip: bool = False,
    ) -> None:
        """Take over an assigned proxy connection. ``give_back`` gets it when its stream
        has ended, if it may be parked again; ``real_ip`` as in ``RequestTap``."""
        number = next(self._numbers)
        visit = Visit(number, sock, assignment, first, self._upstream, self, give_back, real_ip=real_ip)
        self._visits.add(visit)
        visit.start()

    def refuse_seen(self, sock: Socket, assignment: Assignment) -> None:
        """Tell the server that the assignment was taken before, and close ``sock``: no
        visitor is delivered twice."""
        self.lingering.linger(sock, encode(Failed(assignment.id, messages.SEEN)))

    def end(self, reason: str) -> None:
        """Reset every visitor's connection, and close those that linger."""
        for visit in list(self._visits):
            visit.abort(reason)
        self.lingering.end()
        self.half_closed.close()
        self._requests.close()

    def visit_joined(self, visit: Visit) -> RequestTap | None:
        """Report a visitor that reached the upstream, or return what reports its
        requests."""
        if visit.is_http:
            return RequestTap(self._requests, visit.number, visit.peer, real_ip=visit.real_ip)
        self._report(VisitorJoined(visit.number, visit.peer))
        return None

    def visit_failed(self, visit: Visit, error: NetworkError) -> None:
        """Report a visitor that did not reach the upstream."""
        self._report(UpstreamFailed(visit.number, str(self._upstream), error.code, str(error)))
        failure = failure_of(error)
        self._report_undelivered(visit, failure.status, failure.code)

    def visit_ended(self, visit: Visit) -> None:
        """Forget a visitor that has gone, and report what was not reported."""
        self._visits.discard(visit)
        reason = visit.reason or "closed"
        tap = visit.tap
        if tap is not None:
            tap.visit_ended(reason, has_moved=visit.received + visit.sent > 0)
        elif not visit.was_joined:
            if not visit.has_failed:
                self._report_undelivered(visit, None, error_of(reason))
            return
        if tap is None or tap.is_lost:
            seconds = time.monotonic() - visit.started
            self._report(VisitorLeft(visit.number, visit.received, visit.sent, seconds, reason))

    def _report_undelivered(self, visit: Visit, status: int | None, error: str) -> None:
        """Report a request that did not reach the upstream, if there was one."""
        head = visit.head() if visit.is_http else None
        if head is None:
            return
        tap = RequestTap(self._requests, visit.number, visit.peer, real_ip=visit.real_ip)
        shown = tap.begun(head)
        shown.started, shown.error = visit.started, error
        self._requests.finish(shown, status)
