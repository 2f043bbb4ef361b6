"""The pool of proxy connections of one session: as many parked as the server asked for,
another for each one joined that does not come back soon.

A parked connection is a socket and a watcher, no greenlet.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import msgspec

from localtunnel.errors import LocaltunnelError, NetworkError
from localtunnel.net import closing
from localtunnel.net.channel import Channel, client_channel, parked_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, Dialler, dial, dial_at_once
from localtunnel.net.flow.ends import End
from localtunnel.net.sockets import READ, Socket
from localtunnel.net.tls.stream_end import TlsEnd
from localtunnel.protocol.limits import MAX_CONCURRENCY
from localtunnel.protocol.messages import Assigned, Assignment, ErrorReply, FromServer, ProxyRequest
from localtunnel.protocol.version import Version
from localtunnel.protocol.wire.codec import encode

log = logging.getLogger("localtunnel.client")

RETRY_FIRST = 0.1
RETRY_LONGEST = 5.0
"""Seconds between attempts to refill the pool, doubled for each failure in a row. They
are short: the control connection lives, so the server is there, and visitors may be
waiting."""

REFILL_DELAY = 0.003
"""Seconds from an assignment until the pool is refilled, unless it is empty: dialling
takes CPU time, and the visitors of a burst come first."""

SETTLED = 5.0
"""A connection that was parked for this many seconds counts as a success when it
ends."""

WEIGHT = 1 / 8
"""The weight of the latest dial, and of the latest visit, in what is expected of the
next: that of TCP for its round trip (RFC 6298)."""

PATIENCE = 0.05
"""Seconds that a joined connection is waited for, beyond the time that a dial takes: a
handshake costs both sides as much CPU time as several visits."""

SPARE = 2
"""How many times as many connections as the server asked for may be parked, if they
have come back."""

Taken = Callable[[Socket, Assignment | None, bytes], None]


class Proxies:
    """Keeps ``size`` proxy connections parked at ``backend``, in the session's
    ``version`` of the protocol.

    ``secure`` dials them where they are more than TCP. ``taken(sock, assignment,
    first)`` takes ownership of each one that the server assigned to a visitor;
    ``refused(reply)`` is told when the server answers an error instead.
    """

    def __init__(
        self,
        backend: Address,
        version: Version,
        request: ProxyRequest,
        size: int,
        timeout: float,
        taken: Taken,
        refused: Callable[[ErrorReply], None],
        secure: Dialler | None = None,
    ) -> None:
        self.backend = backend
        self.version = version
        self.request = request
        self.timeout = timeout
        self.secure = secure
        self._size = max(1, _bounded(size))
        self._taken = taken
        self._refused = refused
        self._open: dict[_Proxy, None] = {}
        self._failures = 0
        self._timer: Any = None
        self._closed = False
        self._refilling = False
        self._dial_time = 0.0
        """Seconds from a dial until the connection is parked, as a rule."""
        self._joined: dict[int, float] = {}
        """When each joined connection was assigned, by the id of its socket, for as
        long as it is waited for."""
        self._soon = 0.0
        """The share of visits, of late, after which the connection came back in that
        time."""

    def __len__(self) -> int:
        return len(self._open)

    def fill(self) -> None:
        """Open the missing connections.

        One that is about to come back is not missing: under a steady load every visit
        would cost a dial, and its connection would be one too many when it came back.
        """
        self._stop_timer()
        coming = self._coming()
        while not self._closed and self._timer is None and len(self._open) + coming < self._size:
            proxy = _Proxy(self)
            self._open[proxy] = None
            proxy.start()
        if coming and not self._closed and self._timer is None and len(self._open) < self._size:
            self._refill_in(self._dial_time + PATIENCE)

    def resize(self, size: int) -> None:
        """Keep ``size`` connections from now on: open missing ones, close the oldest of
        too many.

        More than ``size`` are too many where it shrinks, else more than may come back.
        A server that suspects the whole pool asks for none, and then for as many as
        before.
        """
        shrinks, self._size = _bounded(size) < self._size, _bounded(size)
        most = self._size if shrinks else SPARE * self._size
        if not self._size:
            # What is joined may be dead as well.
            self._joined.clear()
        for proxy in list(self._open)[: max(0, len(self._open) - most)]:
            del self._open[proxy]
            proxy.close()
        self.fill()

    def renew(self) -> None:
        """Replace all connections: they may be silently dead."""
        if not self._closed:
            size = self._size
            self.resize(0)
            self.resize(size)

    def drain(self) -> None:
        """Open no more connections: the server stops."""
        self._closed = True

    def close(self) -> None:
        """Close all connections, those being opened included. Idempotent."""
        self._closed = True
        self._stop_timer()
        for proxy in list(self._open):
            proxy.close()
        self._open.clear()
        # A cycle: the session holds this object, and these hold the session.
        self._taken = self._refused = _nobody

    def taken(self, proxy: "_Proxy", sock: Socket, assignment: Assignment | None, first: bytes) -> None:
        """Hand ``proxy`` on, which was assigned, and open another."""
        self._open.pop(proxy, None)
        self._failures = 0
        self._joined.pop(id(sock), None)
        self._joined[id(sock)] = time.monotonic()
        self._taken(sock, assignment, first)
        if not self._open:
            self.fill()
        elif not self._refilling and not self._closed:
            self._refill_in(REFILL_DELAY)

    def parked(self, seconds: float) -> None:
        """Note that a connection was parked ``seconds`` after it was dialled."""
        self._dial_time += (seconds - self._dial_time) * (WEIGHT if self._dial_time else 1.0)

    def take_back(self, end: End, delivered: int, lacking: bool = False) -> None:
        """Park ``end`` again, whose stream has ended, unless there are enough.

        The server is told how many bytes of the stream were ``delivered``. If some are
        ``lacking``, it is told in any case: a request waits for that.
        """
        if self._joined.pop(id(end.sock), None) is not None:
            self._soon += (1.0 - self._soon) * WEIGHT
        enough = len(self._open) >= SPARE * self._size and not lacking
        if self._closed or enough or not isinstance(end, TlsEnd):
            end.close()
        elif end.rest:
            # Nothing may have come behind the server's end mark.
            end.reset()
            self.fill()
        elif not end.part(encode(msgspec.structs.replace(self.request, delivered=delivered))):
            # The kernel may still hold the last bytes of the answer, so this is no reset.
            end.close()
            self.fill()
        else:
            end.watcher.close()
            proxy = _Proxy(self)
            self._open[proxy] = None
            proxy.wait(parked_channel(end.sock, self.version, "the server"))

    def lost(self, proxy: "_Proxy", error: LocaltunnelError) -> None:
        """Replace ``proxy``, which has ended unassigned, after a delay that grows with
        each failure."""
        self._open.pop(proxy, None)
        log.debug("proxy connection lost", extra={"error": error.code, "detail": str(error)})
        if proxy.parked_for() >= SETTLED:
            self._failures = 0
        if self._closed or self._timer is not None:
            return
        # Those that are lost together, such as a whole pool, are one failure.
        self._failures += 1
        longest = min(RETRY_LONGEST, RETRY_FIRST * 2 ** min(self._failures, 16))
        self._timer = gevent.get_hub().loop.timer(random.uniform(longest / 2, longest))
        self._timer.start(self.fill)

    def refused(self, proxy: "_Proxy", reply: ErrorReply) -> None:
        """Replace ``proxy``, which the server has refused."""
        self.lost(proxy, LocaltunnelError(f"The server refused a proxy connection: {reply.message or reply.error}"))
        self._refused(reply)

    def _coming(self) -> int:
        """Return how many of the joined connections are about to come back."""
        since = time.monotonic() - self._dial_time - PATIENCE
        for key, joined_at in list(self._joined.items()):
            if joined_at > since:
                break
            del self._joined[key]
            self._soon -= self._soon * WEIGHT
        return len(self._joined) if self._soon > 0.5 else 0

    def _refill_in(self, seconds: float) -> None:
        self._stop_timer()
        self._refilling = True
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self.fill)

    def _stop_timer(self) -> None:
        self._refilling = False
        if self._timer is not None:
            self._timer.close()
            self._timer = None


def _nobody(*_: object) -> None:
    """Ignore the call: the session is over."""


def _bounded(size: int) -> int:
    return max(0, min(size, MAX_CONCURRENCY))


class _Proxy:
    """One proxy connection until its assignment: a greenlet while it waits for the
    backend, then a watcher."""

    __slots__ = ("_began", "_channel", "_dialling", "_parked_at", "_proxies", "_watcher")

    def __init__(self, proxies: Proxies) -> None:
        self._began = time.monotonic()
        self._proxies = proxies
        self._channel: Channel[FromServer] | None = None
        self._watcher: Any = None
        self._parked_at: float | None = None
        self._dialling: gevent.Greenlet | None = None

    def start(self) -> None:
        sock = dial_at_once(self._proxies.backend) if self._proxies.secure is None else None
        if sock is None:
            self._dialling = gevent.spawn(self._wait_for_backend)
        else:
            self._park(sock)

    def parked_for(self) -> float:
        return 0.0 if self._parked_at is None else time.monotonic() - self._parked_at

    def close(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.kill(block=False)
        if self._watcher is not None:
            self._watcher.close()
        if self._channel is not None:
            self._channel.close()

    def _wait_for_backend(self) -> None:
        dialler = self._proxies.secure or dial
        try:
            sock, _ = dialler([self._proxies.backend], Deadline(self._proxies.timeout))
        except LocaltunnelError as error:
            if self._dialling is not None:
                self._dialling = None
                self._lose(error)
        else:
            if self._dialling is not None:
                self._dialling = None
                self._park(sock)
            else:
                # Closed in the very turn of the hub in which it was connected.
                closing.close(sock)

    def wait(self, channel: Channel[FromServer]) -> None:
        """Wait for the assignment on ``channel``, which is parked."""
        self._channel = channel
        self._parked_at = time.monotonic()
        self._watcher = gevent.get_hub().loop.io(channel.sock.fileno(), READ)
        self._watcher.start(self._readable, channel)

    def _park(self, sock: Socket) -> None:
        channel = self._channel = client_channel(sock, self._proxies.version, "the server")
        try:
            channel.send(self._proxies.request, header=self._proxies.version.header)
        except NetworkError as error:
            self._lose(error)
            return
        self._proxies.parked(time.monotonic() - self._began)
        self.wait(channel)

    def _readable(self, channel: Channel[FromServer]) -> None:
        try:
            message = channel.receive_ready()
        except LocaltunnelError as error:
            self._lose(error)
            return
        if isinstance(message, Assigned | Assignment):
            self._watcher.close()
            sock, first = channel.detach()
            self._proxies.taken(self, sock, message if isinstance(message, Assignment) else None, first)
        elif isinstance(message, ErrorReply):
            self.close()
            self._proxies.refused(self, message)

    def _lose(self, error: LocaltunnelError) -> None:
        self.close()
        self._proxies.lost(self, error)
