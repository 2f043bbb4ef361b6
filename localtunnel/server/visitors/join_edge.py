"""Visitors in join mode: the first request of a connection decides where it goes, and
then only bytes pass.

A head that has arrived whole is routed in the listener's callback; a slow one gets a
greenlet that waits for the rest. The bytes that were read go to the upstream untouched.
Nothing after the first request is read, so that no rule of a tunnel could be held to
here: the server refuses tunnels that ask for one (``clients.terms``).
"""

import itertools
import time

from gevent import Greenlet
from gevent.pool import Group
from greenlet import GreenletExit

from localtunnel.errors import DeadlineExceeded, RequestTimeout, VisitorError
from localtunnel.http.message.request import HeadReader, RequestHead
from localtunnel.http.pages import errors as pages
from localtunnel.net import closing
from localtunnel.net.closing import Lingering
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.sockets import Socket, format_address
from localtunnel.protocol.messages import Assignment
from localtunnel.server.config import ServerConfig
from localtunnel.server.visitors.admission import Admission, VisitorPlace
from localtunnel.server.visitors.routes import Routes
from localtunnel.server.visitors.stream_join import StreamJoin


class PlainEdge:
    """Takes visitors from the first byte to a tunnel, or to an answer of our own."""

    def __init__(
        self,
        config: ServerConfig,
        routes: Routes,
        admission: Admission,
        ids: "itertools.count[int]",
        lingering: Lingering,
    ) -> None:
        self._config = config
        self._routes = routes
        self._admission = admission
        self._ids = ids
        self._lingering = lingering
        self._greenlets = Group()

    def stop(self) -> None:
        """Drop the visitors whose head has not arrived."""
        self._greenlets.kill()

    def accept(self, sock: Socket, host: str, port: int, received: bytes = b"") -> None:
        """Take over a new connection, from which ``received`` was read already."""
        visitor = _Newcomer(sock, host, port, HeadReader(self._config.limits.head_bytes))
        now = time.monotonic()
        try:
            visitor.place = self._admission.enter(host, visitor, now, sock.fileno())
            head = visitor.reader.feed(received) if received else visitor.read()
        except VisitorError as error:
            if visitor.place is not None or self._admission.may_answer(now):
                self._answer(visitor, error, None)
            else:
                closing.reset(sock)
        except OSError:
            visitor.close()
        else:
            if head is None:
                visitor.greenlet = self._greenlets.spawn(self._read_slowly, visitor)
            else:
                self._route(visitor, head)

    def _read_slowly(self, visitor: "_Newcomer") -> None:
        deadline = Deadline(self._config.timeouts.head)
        head = None
        try:
            while head is None:
                wait_readable(visitor.sock, deadline)
                head = visitor.read()
        except DeadlineExceeded:
            self._answer(visitor, RequestTimeout(), None)
        except VisitorError as error:
            self._answer(visitor, error, None)
        except (OSError, GreenletExit):
            visitor.close()
        else:
            self._route(visitor, head)

    def _route(self, visitor: "_Newcomer", head: RequestHead) -> None:
        visitor.greenlet = None
        try:
            found = self._routes.find(head, visitor.host)
        except VisitorError as error:
            self._answer(visitor, error, head)
            return
        if isinstance(found, bytes):
            self._send_last(visitor, found)
            return
        asked = head.slimmed()
        assignment = Assignment(next(self._ids), format_address((visitor.host, visitor.port)), "http")
        join = StreamJoin(
            assignment,
            SocketEnd(visitor.sock, "visitor"),
            visitor.take(),
            lambda error: self._answer(visitor, error, asked),
            visitor.leave,
        )
        found.open(join, Deadline(self._config.timeouts.pool_wait))

    def _answer(self, visitor: "_Newcomer", error: VisitorError, head: RequestHead | None) -> None:
        self._send_last(visitor, pages.error_answer(error, head, domain=self._config.domain))

    def _send_last(self, visitor: "_Newcomer", response: bytes) -> None:
        """Send an answer of our own, and close after the visitor has had time to
        read.
        """
        visitor.leave()
        self._lingering.linger(visitor.sock, response)


class _Newcomer:
    """A visitor whose first request is being read, and its place."""

    __slots__ = ("greenlet", "host", "place", "port", "reader", "sock")

    def __init__(self, sock: Socket, host: str, port: int, reader: HeadReader) -> None:
        self.sock = sock
        self.host = host
        self.port = port
        self.reader = reader
        self.place: VisitorPlace | None = None
        self.greenlet: Greenlet | None = None

    def read(self) -> RequestHead | None:
        """Read what has come. Raises VisitorError for an invalid request, OSError when
        the visitor has gone.
        """
        try:
            data = self.sock.recv(self.reader.room)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError
        return self.reader.feed(data)

    def take(self) -> bytes:
        """Return everything that was received, and hold it no more."""
        data = self.reader.data
        self.reader.received.clear()
        return data

    def close_idle(self) -> bool:
        """Make room unless the request has arrived; say whether there is room now."""
        if self.greenlet is None:
            return False
        self.greenlet.kill(block=False)
        self.greenlet = None
        return True

    def close_half_closed(self) -> bool:
        """Say that there is no room: half-closed visitors are not known here."""
        return False

    def leave(self) -> None:
        """Give the place up."""
        if self.place is not None:
            self.place.leave()
            # It holds the visitor as well.
            self.place = None

    def close(self) -> None:
        """Close the connection without an answer."""
        self.leave()
        closing.close(self.sock)
