"""The requests on joined connections, to be shown to the user.

Each connection has a tap beside its byte path (``net.flow.tapped``) that finds where
messages begin and end. Where connections come back (PROTOCOL.md, "Recycling"), more
than the display depends on it: the relay asks whether all requests have their answers
before it hands on the next one, and the server sends a POST again, or does not, by what
was handed on. Another observer, such as an inspector, is one more subclass of
``http.observer.Observer``.
"""

import itertools
import string
import time
from collections.abc import Callable
from urllib.parse import quote

from localtunnel.client.events import Event, RequestFinished, RequestStarted, VisitorJoined
from localtunnel.errors import UpstreamClosed
from localtunnel.http.exchange import Exchange
from localtunnel.http.message.request import RequestHead
from localtunnel.http.observer import Observer
from localtunnel.net.deadline import Expiry

LASTING = 1.0
"""Seconds after which a request is reported as started: a long one must not be
invisible, and most are over long before."""

MAX_PATH = 8 * 1024
"""Characters of a path to report: more than servers accept, but bounded, since a
thousand lines of output may wait to be written."""

MAX_HELD_HEAD = 4 * 1024
"""Bytes of a head that is held whole until the exchange is over; browsers send fewer. A
larger one takes twice its size, and a visitor may wait for its answer for hours."""

VISITOR_GONE = "visitor_gone"
STOPPED = "stopped"
"""Values of ``RequestFinished.error`` besides the codes of ``errors.UpstreamError``."""


class Shown(Exchange, eq=False, gc=False, kw_only=True):
    """An exchange to report. ``visitor`` is an address without a port."""

    number: int
    started: float
    connection: int
    visitor: str | None
    path: str
    announced: bool = False


class RequestLog:
    """Numbers the requests of all connections, and reports them. The owner closes
    it."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self.report = report
        self.numbers = itertools.count(1)
        self.lasting: Expiry[Shown] = Expiry(LASTING, self.announce)

    def announce(self, shown: Shown) -> None:
        """Report that a request has started. Idempotent."""
        if not shown.announced:
            shown.announced = True
            status = None if shown.response is None else shown.response.status
            self.report(
                RequestStarted(shown.number, shown.connection, shown.visitor, shown.request.method, shown.path, status)
            )

    def finish(self, shown: Shown, status: int | None) -> None:
        """Report that a request is over."""
        self.lasting.discard(shown)
        self.report(
            RequestFinished(
                shown.number,
                shown.connection,
                shown.visitor,
                shown.request.method,
                shown.path,
                status,
                round(time.monotonic() - shown.started, 6),
                shown.received,
                shown.sent,
                shown.error,
            )
        )

    def close(self) -> None:
        """Report no more starts."""
        self.lasting.close()


class RequestTap(Observer[Shown]):
    """The tap on one connection, the visit ``number``, whose first visitor has the
    address ``peer``.

    With ``real_ip`` every request has an X-Real-IP of the server. Without it, all
    requests count as one visitor's. A connection that is not HTTP is reported as a
    connection.
    """

    __slots__ = ("_first_visitor", "_last", "_log", "_number", "_path", "_peer", "_real_ip", "_visitor")

    def __init__(self, log: RequestLog, number: int, peer: str | None, *, real_ip: bool) -> None:
        super().__init__()
        self._log = log
        self._number = number
        self._peer = peer
        self._first_visitor = self._visitor = None if peer is None else host_of(peer)
        self._real_ip = real_ip
        self._last: RequestHead | None = None
        """The head of the latest request, whose visitor and path are these."""
        self._path = ""

    # What the relay tells: ``a`` is the server's end, ``b`` the upstream's.

    def seen(self, data: memoryview, *, from_a: bool) -> None:
        """Look at what passes."""
        if from_a:
            self.feed_request(data)
        else:
            self.feed_answer(data)

    def unseen(self, *, from_a: bool) -> int:
        """Return how many of the next bytes hold nothing to look at: those of a
        body."""
        return self.unseen_of_request() if from_a else self.unseen_of_answer()

    def passed(self, size: int, *, from_a: bool) -> None:
        """Count what was not shown."""
        if from_a:
            self.skip_request(size)
        else:
            self.skip_answer(size)

    def ended(self, *, from_a: bool) -> None:
        """Note the end of the upstream's direction, which ends some answers and cuts
        others."""
        if not from_a:
            self.end_answers()

    # What the observer finds.

    def begun(self, request: RequestHead) -> Shown:
        """Number the request."""
        log = self._log
        if request is not self._last:
            # Programs send the same head over and over, and it is read only once.
            self._visitor, self._path = self._visitor_of(request), path_of(request)
            self._last = request = request if request.size <= MAX_HELD_HEAD else request.slimmed()
        shown = Shown(
            request,
            number=next(log.numbers),
            started=time.monotonic(),
            connection=self._number,
            visitor=self._visitor,
            path=self._path,
        )
        log.lasting.add(shown)
        return shown

    def answered(self, exchange: Shown) -> None:
        """Report at once what lasts by its nature."""
        if exchange.switched or _is_event_stream(exchange):
            self._log.announce(exchange)
        response = exchange.response
        if response is not None and response.size > MAX_HELD_HEAD:
            exchange.response = response.slimmed()

    def finished(self, exchange: Shown) -> None:
        """Report the request."""
        response = exchange.response
        self._log.finish(exchange, None if response is None else response.status)

    def lost(self) -> None:
        """Report the connection instead."""
        # Whose bytes these are is not known where others were served on it before.
        peer = None if self._last is not None and self._real_ip else self._peer
        self._log.report(VisitorJoined(self._number, peer))

    def visit_ended(self, reason: str, *, has_moved: bool) -> None:
        """The connection has ended for ``reason``. ``has_moved`` says whether any byte
        has passed on it."""
        self.close(None if reason == "closed" else error_of(reason))
        if has_moved and self._last is None and not self.is_lost:
            self.is_lost = True
            self.lost()

    def _visitor_of(self, request: RequestHead) -> str | None:
        if self._real_ip:
            # The server's fields are the last ones.
            for name, value, _ in reversed(request.fields):
                if name == b"x-real-ip":
                    return value.decode("latin-1")
        return self._first_visitor


def error_of(reason: str) -> str:
    """Return the code for the ``reason`` for which a connection has ended: which side
    it was that ended it."""
    if reason.startswith("upstream"):
        return UpstreamClosed.code
    return VISITOR_GONE if reason.startswith("server") else STOPPED


def path_of(request: RequestHead) -> str:
    """Return the target as it is reported: a byte beyond ASCII in percent-encoding.

    A terminal's output drops what would be a control sequence, and a visitor could hide
    the rest of its path in one.
    """
    return quote(request.raw_target[:MAX_PATH], safe=string.punctuation)[:MAX_PATH]


def host_of(peer: str) -> str:
    """Return the address in ``peer``, which has a port, without brackets."""
    return peer.rpartition(":")[0].strip("[]") or peer


def _is_event_stream(exchange: Exchange) -> bool:
    response = exchange.response
    if response is None or response.length is not None:
        return False
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value, _ in response.fields
    )
