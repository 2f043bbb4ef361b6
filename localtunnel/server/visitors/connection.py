"""One visitor's connection at the HTTP edge: its requests one after another, in order.

It reads heads, and lends its side of the pump to one exchange at a time. Bytes that
come in the meantime are held for the next request.
"""

from collections.abc import Callable

from localtunnel.errors import RequestTimeout, VisitorError
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.lending import PINNED
from localtunnel.http.message.request import HeadReader, RequestHead, read_head
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.buffer import FIRST_PIECE, buffer, view
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.pump import Side
from localtunnel.net.sockets import Socket, keep_asking
from localtunnel.server.tunnels.kept import KeptConnection, KeptConnections
from localtunnel.server.visitors.admission import VisitorPlace
from localtunnel.server.visitors.connections import Connections, Waiting

_head_piece = view[:FIRST_PIECE]
"""What heads are read into. The part of the body that comes with a head is scanned in
one go; it is held, with further requests, while the request waits for its turn and for
a connection."""


class Connection:
    """Owns the visitor's socket. ``busy``: a request waits, or is being answered."""

    __slots__ = (
        "_awaits_head",
        "_connections",
        "_end",
        "_is_listened_to",
        "_reader",
        "_retained",
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
        """Whether it is a proxy's, and so carries many visitors."""
        self.forwarding = forwarding
        self.busy = False
        self.closed = False
        self.place: VisitorPlace | None = None
        self.give_up: Callable[[], None] | None = None
        """Ends an exchange without an answer, once the visitor is half closed."""
        self._connections = connections
        self._end = SocketEnd(sock, "visitor")
        self.side = Side(self._end)
        self.held = b""
        """Bytes of the requests after the one that is being answered."""
        self._awaits_head = False
        self._is_listened_to = False
        self._reader: HeadReader | None = None
        self._retained: KeptConnection | None = None
        connections.open.add(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.busy else "idle"
        return f"<Connection of {self.host}:{self.port} {state}>"

    # From one request to the next.

    def start(self, received: bytes = b"") -> None:
        """Begin to read; ``received`` was read before."""
        self._await_head()
        if received:
            self._take_in(memoryview(received))
        else:
            self._read()
        if not self.busy and not self.closed:
            self.side.watch_for(self._read)

    def exchange_ended(self, *, close: bool, whole: bool) -> None:
        """Take the side back after an answer, and go on to the next request, or close.

        ``whole`` says that all of the request had come. Nothing is in flight from the
        visitor then, unless it has sent another request, and its connection can be
        closed at once.
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
        """Return what the rest of a head is read into, within the size of a head."""
        return view[: min(FIRST_PIECE, reader.room)]

    def _await_head(self) -> None:
        self._awaits_head = True
        self._connections.heads.add(self)

    def _take_in(self, data: memoryview) -> None:
        """Collect a request's head. Nearly all come whole, and are parsed in the
        buffer.
        """
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
        """Have the request checked, and answered when its turn comes."""
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
        """Route a request anew whose tunnel has ended; ``rest`` has come of its
        body.
        """
        self.side.unbind()
        self._listen_no_more()
        try:
            self._connections.on_request(self, head, memoryview(rest), deadline)
        except VisitorError as error:
            self.answer(error, head)

    # What an exchange asks for.

    def hold(self, data: bytes | memoryview) -> None:
        """Hold ``data`` for the next request."""
        self.held += data

    def wait(self, exchange: Waiting) -> None:
        """Read nothing while ``exchange`` waits; have it ``listen`` after a moment."""
        self._end.watcher.stop()
        self._connections.waiting.add(exchange)

    def listen(self, gone: Callable[[], None]) -> None:
        """Call ``gone()`` if the visitor goes before the exchange has ended."""
        if not self._is_listened_to:
            self._is_listened_to = True
            self._connections.hang_ups.listen(self._end.sock, gone)

    def keep_asking(self) -> None:
        """Have the kernel probe the visitor's machine.

        A visitor that has ended its direction looks the same whether it waits for the
        answer or has closed the connection. Its kernel knows, and answers a probe of a
        closed one with a reset.
        """
        keep_asking(self._end.sock)

    def waits_no_more(self, exchange: Waiting) -> None:
        """Note that ``exchange`` has a proxy connection, or needs none."""
        self._connections.waiting.discard(exchange)

    def _listen_no_more(self) -> None:
        self.give_up = None
        if self._is_listened_to:
            self._is_listened_to = False
            self._connections.hang_ups.forget(self._end.sock)

    def lend(self) -> bytes:
        """Hand the connection over; return the bytes that are held."""
        self._listen_no_more()
        held, self.held = self.held, b""
        return held

    def retain(self, carrier: KeptConnection) -> None:
        """Keep ``carrier``, with nothing in flight, for the next request."""
        self._give_back()
        if carrier.kept.keep_for(carrier, self._give_back):
            self._retained = carrier
        else:
            carrier.kept.give_back(carrier)

    def take_retained(self, kept: KeptConnections, request: RequestHead, *, held: bool) -> KeptConnection | None:
        """Return the connection that is retained for the tunnel of ``kept``, if any.

        It is given up where anything has come on it, and where a proxy may have sent
        ``request`` for another visitor. A request that is not ``held`` cannot go out
        again, so it gets only a connection with a login. Any other makes room for the
        fresh one, for which the upstream may have to see its end.
        """
        carrier = self._retained
        if carrier is None or carrier.kept is not kept:
            return None
        may_use = held or carrier.fate is PINNED
        if request.has_intermediary or not may_use or not carrier.end.is_quiet:
            self._give_back()
            return None
        self._retained = None
        kept.forget(carrier)
        return carrier

    # Ends.

    def answer(self, error: VisitorError, head: RequestHead | None) -> None:
        """Answer with an error page, and close after the visitor has had time to
        read.
        """
        self.send_last(self._connections.error_page(error, head))

    def send_last(self, response: bytes) -> None:
        """Send an answer of our own, and close after the visitor has had time to
        read.
        """
        self._forget()
        self.side.unbind()
        self._end.watcher.close()
        self._connections.lingering.linger(self._end.sock, response)

    def head_overdue(self) -> None:
        """Refuse a head that has not come in time."""
        self.answer(RequestTimeout(), None)

    def idle_overdue(self) -> None:
        """Close the connection, unless a request has begun since it became idle."""
        if not self.busy and not self._awaits_head:
            self.close()

    def close_idle(self) -> bool:
        """Close the connection unless it has a request; say whether it was closed."""
        if not self.busy:
            self.close()
        return self.closed

    def close_half_closed(self) -> bool:
        """Cut a connection that is half closed and has no answer; say whether it
        was.
        """
        if self.give_up is not None:
            self.give_up()
        return self.closed

    def close(self) -> None:
        """Close the connection, on which nothing is in flight. Idempotent."""
        if not self.closed:
            self._forget()
            self.side.close(reset=False)

    def reset(self) -> None:
        """Reset, so that no cut answer looks complete. Idempotent."""
        if not self.closed:
            self._forget()
            self.side.close(reset=True)

    def gone(self) -> None:
        """Note that the socket, which was handed over, has been closed."""
        self._forget()
        self.side.closed = True

    def _close_gently(self) -> None:
        """Close so that the last bytes arrive, whatever the visitor still sends."""
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
        self._give_back()

    def _give_back(self) -> None:
        """Give up the connection that is retained, if any."""
        carrier, self._retained = self._retained, None
        if carrier is not None:
            carrier.kept.forget(carrier)
            carrier.kept.give_back(carrier)
