"""Proxy connections on their way back to the pool (PROTOCOL.md, "Recycling").

The stream of such a connection is over on this side. Its client has yet to end its own
direction, and then to ask for a place in the pool, as it did when the connection was
new. What one visitor left behind stays in the stream that has ended: each stream begins
with a fresh decoder, and anything else than that request ends the connection.

On its way back it takes a place of those that are parked: a client whose visitors are
its own could otherwise have any number of them.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from localtunnel.errors import ClientKicked, FrameError, LimitReached, LocaltunnelError, RefusedError
from localtunnel.net.channel import READS_AT_A_TIME, Channel, ended_channel
from localtunnel.net.deadline import Expiry
from localtunnel.net.flow.buffer import view
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.sockets import READ, plain_host
from localtunnel.net.tls.stream_end import TlsEnd
from localtunnel.protocol.limits import ENDED_TIMEOUT, MARK_TIMEOUT, MAX_BEHIND_ANSWER
from localtunnel.protocol.messages import ErrorReply, FromClient, ProxyRequest
from localtunnel.server.limits.quotas import Place

log = logging.getLogger("localtunnel.server")

Told = Callable[[int | None], None]
"""Gets the number of bytes of the stream that the client has written to the upstream,
or None if it does not say."""

Park = Callable[[SocketEnd, Place], None]
"""Takes ownership of a connection that has come back, and of its place."""


class Readmission(NamedTuple):
    """Who may come back. Both get the client's address."""

    place: Callable[[str], Place]
    """Returns a place in the quota of parked connections. Raises LimitReached."""
    check: Callable[[ProxyRequest, str], None]
    """Raises a RefusedError where the request may not be granted: ClientKicked, if the
    address is banned."""


def _nobody(*_: object) -> None:
    """Ignore the call: the tunnel has ended."""


class Returns:
    """The connections of one tunnel that come back; its owner closes this with it."""

    def __init__(self, readmission: Readmission, park: Park) -> None:
        self._readmission = readmission
        self._park = park
        self._closed = False
        self._draining = False
        self._open: set[_Return] = set()
        self._marks: Expiry[_Return] = Expiry(MARK_TIMEOUT, self._late)
        self._requests: Expiry[_Return] = Expiry(ENDED_TIMEOUT, self._late)

    def __len__(self) -> int:
        return len(self._open)

    def take(self, end: End, told: Told | None = None) -> None:
        """Take ownership of ``end``, from which nothing is to go to a visitor any more.

        It is closed where it cannot come back. ``told(delivered)`` is called in any
        case, once: with the number that the client gives, or with None.
        """
        end = end.unlimited()
        connection = self._begin(end, told)
        if connection is None:
            end.close()
            if told is not None:
                told(None)
            return
        self._open.add(connection)
        self._marks.add(connection)
        connection.begin()

    def _begin(self, end: End, told: Told | None) -> "_Return | None":
        """Send our mark on ``end``, or return None where it cannot come back."""
        if self._closed or (self._draining and told is None) or not isinstance(end, TlsEnd):
            return None
        place = None
        try:
            host = plain_host(end.sock.getpeername()[0])
            place = self._readmission.place(host)
        except LimitReached:
            # Somebody waits for what its request says, which is then refused.
            if told is None:
                return None
        except OSError:
            return None
        connection = _Return(end, self, told, host, place)
        if not end.part():
            connection.leave()
            return None
        return connection

    def ended(self, connection: "_Return") -> None:
        """Begin the wait for the request: both directions have ended."""
        self._marks.discard(connection)
        self._requests.add(connection)

    def asked(self, connection: "_Return", end: TlsEnd, channel: Channel[FromClient], request: ProxyRequest) -> None:
        """Park ``connection``, or refuse it."""
        self.forget(connection)
        end.watcher.stop()
        sock, early = channel.detach()
        try:
            self._readmission.check(request, connection.host)
            place = connection.place or self._readmission.place(connection.host)
        except ClientKicked:
            # As for a new connection from there, no answer.
            connection.leave()
            end.reset()
        except RefusedError as error:
            connection.leave()
            # A full quota is no news, and would be told thousands of times a second.
            level = logging.DEBUG if isinstance(error, LimitReached) else logging.WARNING
            log.log(level, "proxy connection refused", extra={"tunnel": request.name, "error": error.code})
            with suppress(LocaltunnelError):
                channel.send(ErrorReply(error.code, str(error)))
            end.watcher.close()
            channel.close()
        else:
            parked = SocketEnd(sock, "client", end.watcher)
            if early or self._draining:
                parked.close()
                place.release()
            else:
                self._park(parked, place)
        connection.tell(request.delivered)

    def forget(self, connection: "_Return") -> None:
        """Forget ``connection``, which is somebody else's or closed."""
        self._open.discard(connection)
        self._marks.discard(connection)
        self._requests.discard(connection)

    def drain(self) -> None:
        """Have none come back from now on. A request still tells what was delivered."""
        self._draining = True

    def close(self) -> None:
        """Close them all, and take none from now on. Idempotent."""
        self._closed = True
        for connection in list(self._open):
            connection.reset()
        self._marks.close()
        self._requests.close()
        # A cycle: the tunnel holds this object, and that would hold the tunnel.
        self._park = _nobody

    def _late(self, connection: "_Return") -> None:
        log.debug("connection does not come back", extra={"detail": "in time"})
        connection.reset()


class _Return:
    """One of them: what is left of its stream, and then the request."""

    __slots__ = ("_channel", "_dropped", "_end", "_returns", "_told", "host", "place")

    def __init__(self, end: TlsEnd, returns: Returns, told: Told | None, host: str, place: Place | None) -> None:
        self.host = host
        """The client's address."""
        self.place = place
        """Its place in the quota; None where that is full, and the request is needed
        all the same."""
        self._end = end
        self._returns = returns
        self._channel: Channel[FromClient] | None = None
        self._dropped = 0
        self._told = told

    def begin(self) -> None:
        """Read what has come, and wait for the rest."""
        watcher = self._end.watcher
        watcher.stop()
        watcher.events = READ
        watcher.start(self._readable)
        self._readable()

    def reset(self) -> None:
        """Close the connection, which does not come back."""
        self._returns.forget(self)
        self.leave()
        self._end.reset()
        self.tell(None)

    def leave(self) -> None:
        """Release the place in the quota, if there is one."""
        if self.place is not None:
            self.place.release()

    def tell(self, delivered: int | None) -> None:
        """Say how much was delivered, to whom it may concern."""
        told, self._told = self._told, None
        if told is not None:
            told(delivered)

    def _readable(self) -> None:
        try:
            if self._channel is None and not self._has_ended():
                return
            message = self._channel.receive_ready() if self._channel is not None else None
        except BlockingIOError:
            return
        except (OSError, LocaltunnelError) as error:
            log.debug("connection does not come back", extra={"detail": str(error)})
            self.reset()
            return
        if isinstance(message, ProxyRequest) and self._channel is not None:
            self._returns.asked(self, self._end, self._channel, message)

    def _has_ended(self) -> bool:
        """Drop what is left of the stream, and say whether it has ended.

        An answer may have more behind its end, and the client does not know that the
        visitor has got all of it.
        """
        reads = 0
        while size := self._end.try_read(view):
            self._dropped += size
            if self._dropped > MAX_BEHIND_ANSWER:
                raise FrameError("The stream goes on behind the answer.")
            reads += 1
            if reads >= READS_AT_A_TIME and not self._end.has_pending:
                return False
        self._channel = ended_channel(self._end.sock, self._end.rest, "the client")
        self._returns.ended(self)
        return True
