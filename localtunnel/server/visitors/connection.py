"""One visitor's connection at the HTTP edge: its requests one after the other, in their order.

It reads heads, and lends its side of the pump to one exchange at a time. What comes in the meantime is held for the
request after that.
"""

from collections.abc import Callable

from localtunnel.errors import RequestTimeout, VisitorError
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.message.request import HeadReader, RequestHead, read_head
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.pump import FIRST_PIECE, Side, buffer, view
from localtunnel.net.sockets import Socket, keep_asking
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections
from localtunnel.server.visitors.admission import VisitorPlace
from localtunnel.server.visitors.connections import Connections, Waiting

_head_piece = view[:FIRST_PIECE]
"""What heads are read into: what has come of the body behind one is looked at in one go, and is held together with
further requests for as long as the request waits for its turn and for a connection."""


class Connection:
    """Owns the visitor's socket. While ``busy``, a request is being answered, or waits for its turn."""

    __slots__ = (
        "_awaits_head",
        "_connections",
        "_end",
        "_is_listened_to",
        "_pinned",
        "_reader",
        "busy",
        "closed",
        "forwarding",
        "give_up",
        "held",
        "host",
        "is_shared",
        "place",
        "port",
        "side",
    )

    def __init__(
        self,
        connections: "Connections[Connection]",
        sock: Socket,
        host: str,
        port: int,
        forwarding: Forwarding,
        *,
        is_shared: bool,
    ) -> None:
        self.host = host
        self.port = port
        self.is_shared = is_shared
        """Whether it is a proxy's, and so that of many visitors."""
        self.forwarding = forwarding
        self.busy = False
        self.closed = False
        self.place: VisitorPlace | None = None
        self.give_up: Callable[[], None] | None = None
        """Ends the exchange if nothing of the answer has come, once the visitor has ended its own direction."""
        self._connections = connections
        self._end = SocketEnd(sock, "visitor")
        self.side = Side(self._end)
        self.held = b""
        """What has come of the requests behind the one that is being answered."""
        self._awaits_head = False
        self._is_listened_to = False
        self._reader: HeadReader | None = None
        self._pinned: KeptConnection | None = None
        connections.open.add(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle"
        return f"<Connection of {self.host}:{self.port} {state}>"

    # From one request to the next.

    def start(self, received: bytes = b"") -> None:
        """Begin to read, with what was received already."""
        self._await_head()
        if received:
            self._take_in(memoryview(received))
        else:
            self._read()
        if not self.busy and not self.closed:
            self.side.watch_for(self._read)

    def exchange_ended(self, *, close: bool, whole: bool) -> None:
        """The request has been answered, and the side is ours again: go on to the next, or close.

        ``whole`` says that all of the request had come. Nothing is under way from the visitor then, unless it has sent
        another one already, so that its connection can be closed at once.
        """
        self.side.unbind()
        self.busy = False
        self.give_up = None
        if self._is_listened_to:
            self._listen_no_more()
        if not whole or (self.held and (close or self._connections.stopping)):
            self._close_gently()
            return
        if close or self._connections.stopping:
            self.close()
            return
        held, self.held = self.held, b""
        if held:
            self._await_head()
            self._take_in(memoryview(held))
        else:
            self._connections.idle.add(self)
        if not self.busy and not self.closed:
            self.side.watch_for(self._read)

    def _read(self) -> None:
        try:
            size = self._end.try_read(_head_piece if self._reader is None else self._room(self._reader))
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if size:
            self._take_in(view[:size])
        else:
            self.close()

    def _room(self, reader: HeadReader) -> memoryview:
        """Return what the rest of a head is read into: all of it stays within the size that a head may have."""
        return view[: min(FIRST_PIECE, reader.room)]

    def _await_head(self) -> None:
        self._awaits_head = True
        self._connections.heads.add(self)

    def _take_in(self, data: memoryview) -> None:
        """Collect the head of a request. One that has come whole, as nearly all do, is parsed where it lies."""
        reader = self._reader
        connections = self._connections
        try:
            if reader is None and data.obj is buffer:
                head = read_head(buffer, 0, len(data), connections.max_head)
                if head is not None:
                    self._begin(head, data[head.size :])
                    return
            if reader is None:
                reader = self._reader = HeadReader(connections.max_head)
                if not self._awaits_head:
                    self._await_head()
            head = reader.feed(data)
        except VisitorError as error:
            self.answer(error, None)
            return
        if head is not None:
            self._reader = None
            self._begin(head, memoryview(reader.rest))

    def _begin(self, head: RequestHead, rest: memoryview) -> None:
        """Check the request, and let its tunnel have it when its turn comes."""
        connections = self._connections
        if self._awaits_head:
            self._awaits_head = False
            connections.heads.discard(self)
        self.busy = True
        try:
            connections.on_request(self, head, rest, None)
        except VisitorError as error:
            self.answer(error, head)

    def begin_again(self, head: RequestHead, rest: bytes, deadline: Deadline) -> None:
        """Ask anew for what the name has by now, with the request's body ``rest``: its tunnel has ended before it."""
        self.side.unbind()
        self._listen_no_more()
        try:
            self._connections.on_request(self, head, memoryview(rest), deadline)
        except VisitorError as error:
            self.answer(error, head)

    # What an exchange asks for.

    def hold(self, data: bytes | memoryview) -> None:
        """Hold what belongs to the next request."""
        self.held += data

    def wait(self, exchange: Waiting) -> None:
        """Read no more until ``exchange`` has a proxy connection, and have it ``listen`` before long."""
        self._end.watcher.stop()
        self._connections.waiting.add(exchange)

    def listen(self, gone: Callable[[], None]) -> None:
        """Call ``gone()`` when the visitor is gone, read from or not, until the exchange has ended."""
        if not self._is_listened_to:
            self._is_listened_to = True
            self._connections.hang_ups.listen(self._end.sock, gone)

    def keep_asking(self) -> None:
        """Have the visitor's machine asked whether the visitor is still there.

        One that has ended its own direction looks the same to us whether it waits for its answer or has closed the
        connection for good; its kernel knows, which answers for a while and with a reset after that.
        """
        keep_asking(self._end.sock)

    def waits_no_more(self, exchange: Waiting) -> None:
        """Note that ``exchange`` has its proxy connection, or needs none."""
        self._connections.waiting.discard(exchange)

    def _listen_no_more(self) -> None:
        self.give_up = None
        if self._is_listened_to:
            self._is_listened_to = False
            self._connections.hang_ups.forget(self._end.sock)

    def lend(self) -> bytes:
        """Return what is held, which is not ours any more, and neither is the connection."""
        self._listen_no_more()
        held, self.held = self.held, b""
        return held

    def pin(self, carrier: KeptConnection) -> None:
        """Keep ``carrier``, with nothing in flight on it, for this visitor alone: it has logged in on it."""
        self._unpin()
        if carrier.kept.closed:
            carrier.close(reset=False)
            return
        carrier.personal = True
        self._pinned = carrier
        carrier.kept.personal[carrier] = self._unpin
        carrier.watch_for(self._unpin)

    def take_pinned(self, kept: KeptConnections, request: RequestHead) -> KeptConnection | None:
        """Return the connection that was pinned for the tunnel of ``kept``; one of another tunnel stays.

        One that may not go on, or not with ``request``, which a proxy may have sent for somebody else, is closed.
        """
        carrier = self._pinned
        if carrier is None or carrier.kept is not kept:
            return None
        if request.has_intermediary or not carrier.end.is_quiet:
            self._unpin()
            return None
        self._pinned = None
        kept.personal.pop(carrier)
        return carrier

    # Ends.

    def answer(self, error: VisitorError, head: RequestHead | None) -> None:
        """Answer with an error page, and close once the visitor has had the time to read it."""
        self.send_last(self._connections.error_page(error, head))

    def send_last(self, response: bytes) -> None:
        """Send an answer of the server's own, and close once the visitor has had the time to read it."""
        self._forget()
        self.side.unbind()
        self._end.watcher.close()
        self._connections.lingering.linger(self._end.sock, response)

    def head_overdue(self) -> None:
        """The head has not come in time."""
        self.answer(RequestTimeout("The request's head did not arrive in time."), None)

    def idle_overdue(self) -> None:
        """Nothing has come for a while. One whose next request has begun meanwhile is not idle any more."""
        if not self.busy and not self._awaits_head:
            self.close()

    def close_idle(self) -> bool:
        """Close the connection unless a request is being answered; say whether it was closed."""
        if not self.busy:
            self.close()
        return self.closed

    def close_half_closed(self) -> bool:
        """Cut the connection if its visitor has ended its direction and no answer has begun; say whether it was."""
        if self.give_up is not None:
            self.give_up()
        return self.closed

    def close(self) -> None:
        """Close the connection, on which nothing is on its way. May be called twice."""
        if not self.closed:
            self._forget()
            self.side.close(reset=False)

    def reset(self) -> None:
        """Cut the connection: what the visitor has got must not look complete. May be called twice."""
        if not self.closed:
            self._forget()
            self.side.close(reset=True)

    def gone(self) -> None:
        """Somebody else owned the socket, and has closed it."""
        self._forget()
        self.side.closed = True

    def _close_gently(self) -> None:
        """Close, and let what was sent last arrive whatever the visitor still sends."""
        self._forget()
        self._end.watcher.close()
        self._connections.lingering.linger(self._end.sock)

    def _forget(self) -> None:
        connections = self._connections
        self.closed = True
        self._listen_no_more()
        connections.open.discard(self)
        connections.heads.discard(self)
        connections.idle.discard(self)
        if self.place is not None:
            self.place.leave()
            # It holds the connection as well.
            self.place = None
        self._unpin()

    def _unpin(self) -> None:
        """Close what was pinned: its upstream or its tunnel ended, or the visitor has gone, or logged in elsewhere."""
        carrier, self._pinned = self._pinned, None
        if carrier is not None:
            carrier.kept.personal.pop(carrier)
            carrier.close(reset=False)
