"""Binding a join to a proxy connection (PROTOCOL.md, "Assignment").

LTP/0.2 has no acknowledgement: the first live connection is taken, and the relay
starts. An LTP/0.3 client answers ``got``. If that does not come in time, the connection
may be dead without a sign of it. The same assignment, under the same id, then goes out
on further connections, twice as many in each round. The client takes an id once, so a
visitor is delivered at most once, and a dead connection costs a moment instead of a
visitor.

Everything here runs in hub callbacks.
"""

import logging
from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.errors import (
    FrameError,
    LocaltunnelError,
    MessageError,
    PoolExhausted,
    UpstreamClosed,
    UpstreamTimeout,
    VisitorError,
    upstream_error,
)
from localtunnel.net.channel import Channel, assigned_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.sockets import smoothed_round_trip
from localtunnel.net.tls.stream_end import begin_stream, stream_end, to_stream
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import ASSIGNED, Failed, FromClient, Got, Ready
from localtunnel.protocol.wire.codec import encode
from localtunnel.server.tunnels.join import Join
from localtunnel.server.tunnels.pool import Pool, Waiter

log = logging.getLogger("localtunnel.server")

_ASSIGNED_0_2 = encode(ASSIGNED)


class Assigning:
    """One join, until a proxy connection has taken it or ``deadline`` has passed.

    A join that is not taken in time is refused.
    """

    def __init__(self, join: Join, pool: Pool, deadline: Deadline) -> None:
        self._join = join
        self._pool = pool
        self._deadline = deadline
        self._missed = False
        """Whether an assigned connection has failed to answer in time."""
        self._waiter: Waiter | None = None
        join.cancel = self.cancel

    def start(self) -> None:
        """Assign now if a connection is parked, else when one is. Never blocks."""
        parked = self._pool.take_now()
        while parked is not None:
            if self._assign(parked):
                return
            parked = self._pool.take_now()
        self._wait()

    def cancel(self) -> None:
        """Stop, and close the connections that were assigned.

        The join keeps the visitor's.
        """
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None

    def _assign(self, parked: SocketEnd) -> bool:
        """Take ownership of ``parked`` and assign it.

        Returns False if it was dead; it is closed then.
        """
        raise NotImplementedError

    def _refuse(self, error: VisitorError) -> None:
        self.cancel()
        self._join.refuse(error)

    def _wait(self) -> None:
        """Wait in line until a connection is parked."""
        if self._waiter is None:
            try:
                self._waiter = self._pool.wait(self._deadline, self._offered, self._in_vain, missed=self._missed)
            except PoolExhausted as error:
                self._exhausted(error)

    def _offered(self, end: SocketEnd) -> None:
        """A connection was parked for this join.

        If it is already dead, wait for the next.
        """
        self._waiter = None
        if not self._assign(end):
            self._wait()

    def _in_vain(self, error: PoolExhausted) -> None:
        self._waiter = None
        self._exhausted(error)

    def _exhausted(self, error: PoolExhausted) -> None:
        self._refuse(error)


class Assigning02(Assigning):
    """Assigns an LTP/0.2 join: the visitor's stream follows, and no answer comes."""

    def _assign(self, parked: SocketEnd) -> bool:
        data = _ASSIGNED_0_2 + self._join.first
        try:
            sent = parked.try_write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            parked.close()
            return False
        self._join.joined(parked, b"", data[sent:], hold_eof=True)
        return True


class Assigning03(Assigning):
    """Assigns an LTP/0.3 join, on as many connections as it takes until one answers."""

    def __init__(self, join: Join, pool: Pool, deadline: Deadline) -> None:
        super().__init__(join, pool, deadline)
        self._frame = encode(join.assignment)
        self._attempts: dict[SocketEnd, Channel[FromClient]] = {}
        self._timer: Any = None
        self._round = 1 if pool.suspect else 0
        self._patience = limits.GOT_TIMEOUT
        self._seen = False

    def cancel(self) -> None:
        """Stop, and reset all assigned connections.

        Their clients then drop the assignment.
        """
        super().cancel()
        self._stop_timer()
        for parked in list(self._attempts):
            self._drop(parked)

    def start(self) -> None:
        """Assign now if connections are parked, else when one is. Never blocks."""
        self._fan_out()

    def _fan_out(self) -> None:
        """Assign on as many connections as this round allows, or wait for one.

        After a miss the client is renewing its pool, so the next connection that it
        parks is fresh. The join waits for that one too.
        """
        assigned = 0
        while assigned < 2**self._round and (parked := self._pool.take_now()) is not None:
            assigned += self._assign(parked)
        if self._missed or not assigned:
            self._wait()

    def _assign(self, parked: SocketEnd) -> bool:
        data = self._frame + to_stream(parked.sock, self._join.first[: limits.MAX_FIRST])
        try:
            if parked.try_write(data) < len(data):
                raise BlockingIOError
        except OSError:
            parked.reset()
            return False
        channel = self._attempts[parked] = assigned_channel(parked.sock, "the client")
        parked.watcher.start(self._readable, parked, channel)
        self._join.assigned += 1
        self._arm(limits.GOT_TIMEOUT, self._no_got_yet)
        return True

    def _readable(self, parked: SocketEnd, channel: Channel[FromClient]) -> None:
        try:
            while (message := channel.receive_ready()) is not None:
                if not isinstance(message, Got | Ready | Failed) or message.id != self._join.assignment.id:
                    raise MessageError("The answer belongs to another assignment.")
                if self._answered(parked, channel, message):
                    return
        except LocaltunnelError as error:
            log.debug("assignment lost", extra={"join": self._join.assignment.id, "detail": str(error)})
            self._lost(parked)

    def _answered(self, parked: SocketEnd, channel: Channel[FromClient], message: Got | Ready | Failed) -> bool:
        """Act on an answer. Returns whether it is the last one on this connection."""
        if isinstance(message, Got):
            self._take_only(parked)
            return False
        if isinstance(message, Ready):
            del self._attempts[parked]
            parked.watcher.stop()
            self._stop_timer()
            self._relay(parked, channel)
            return True
        if message.error == messages.SEEN:
            super().cancel()
            self._seen = True
            self._drop(parked)
            if not self._attempts:
                self._refuse(UpstreamClosed())
        else:
            self._refuse(upstream_error(message.error))
        return True

    def _relay(self, parked: SocketEnd, channel: Channel[FromClient]) -> None:
        """Hand over to the relay.

        The upstream is connected, and its stream follows the answer.
        """
        _, received = channel.detach()
        try:
            stream, to_visitor = begin_stream(parked.sock, received)
        except FrameError as error:
            log.debug("stream refused", extra={"join": self._join.assignment.id, "detail": str(error)})
            parked.reset()
            self._refuse(UpstreamClosed())
            return
        first = self._join.first
        goes_on = self._join.returns is not None
        end = stream_end(parked, stream, written=len(first[: limits.MAX_FIRST]), goes_on=goes_on)
        self._join.joined(end, to_visitor, first[limits.MAX_FIRST :], hold_eof=False)

    def _take_only(self, winner: SocketEnd) -> None:
        """``winner`` has the visitor.

        End all other attempts, and wait for the upstream.
        """
        super().cancel()
        self._pool.suspect = self._missed and self._pool.suspect
        self._seen = True
        for parked in [other for other in self._attempts if other is not winner]:
            self._drop(parked)
        self._deadline = Deadline(limits.READY_TIMEOUT)
        self._arm(limits.READY_TIMEOUT, self._no_ready)

    def _no_got_yet(self) -> None:
        """The minimum wait is over; on a slow link, allow a few more round trips.

        Most assignments are answered before this.
        """
        round_trip = max((smoothed_round_trip(parked.sock) for parked in self._attempts), default=0.0)
        self._patience = max(limits.GOT_TIMEOUT, limits.GOT_ROUND_TRIPS * round_trip)
        more = self._patience - limits.GOT_TIMEOUT
        if more:
            self._arm(more, self._no_got)
        else:
            self._no_got()

    def _no_got(self) -> None:
        """No answer in time.

        Try more connections, unless time is up or the client has the id already.

        A tunnel that has ended has no more connections, and those that have not
        answered by now will not.
        """
        self._missed = True
        self._pool.suspect_all()
        if not self._deadline.remaining() or (self._pool.closed and not self._seen):
            self._give_up(PoolExhausted("The tunnel's client does not answer; try again in a moment."))
        elif self._seen:
            self._arm(self._deadline.remaining() or 0.0, self._no_got)
        else:
            self._round += bool(self._attempts)
            self._arm(self._patience, self._no_got)
            self._fan_out()

    def _no_ready(self) -> None:
        self._refuse(UpstreamTimeout())

    def _lost(self, parked: SocketEnd) -> None:
        """An assigned connection has ended without an answer, which is a miss."""
        if len(self._attempts) > 1:
            self._drop(parked)
        elif self._seen:
            self._refuse(UpstreamClosed())
        else:
            self._no_got()
            if parked in self._attempts:
                self._drop(parked)

    def _exhausted(self, error: PoolExhausted) -> None:
        """No connection was parked in time.

        One that was assigned before may still answer.
        """
        if not self._attempts or not self._deadline.remaining():
            self._give_up(error)

    def _give_up(self, error: PoolExhausted) -> None:
        if self._seen:
            self._refuse(UpstreamClosed())
        else:
            self._refuse(error)

    def _drop(self, parked: SocketEnd) -> None:
        del self._attempts[parked]
        parked.reset()

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        remaining = self._deadline.remaining()
        self._timer = gevent.get_hub().loop.timer(seconds if remaining is None else min(seconds, remaining))
        self._timer.start(callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
