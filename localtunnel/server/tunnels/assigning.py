"""Binding a join to a proxy connection (PROTOCOL.md, "Assignment").

LTP/0.2 has no acknowledgement: the first live connection is taken, and the relay starts. In LTP/0.3 the client answers
``got``. Where that does not come in time the connection may be dead in silence, so the same assignment, under the same
id, goes out on further connections, twice as many in each round. The client takes an id once; so a visitor is delivered
at most once, and a dead connection costs a moment instead of a visitor.

Everything here runs in the hub, and nothing takes a greenlet.
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
    """One join until a proxy connection has taken it, or nobody has by ``deadline``: then the join is refused."""

    def __init__(self, join: Join, pool: Pool, deadline: Deadline) -> None:
        self._join = join
        self._pool = pool
        self._deadline = deadline
        self._missed = False
        """Whether a connection that was assigned has not answered in time."""
        self._waiter: Waiter | None = None
        join.cancel = self.cancel

    def start(self) -> None:
        """Assign now if a connection is parked, else when one comes. Never blocks."""
        parked = self._pool.take_now()
        while parked is not None:
            if self._assign(parked):
                return
            parked = self._pool.take_now()
        self._wait()

    def cancel(self) -> None:
        """Stop, and close what was assigned; the visitor's connection stays with the join."""
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None

    def _assign(self, parked: SocketEnd) -> bool:
        """Assign ``parked``, which is ours now. Returns False, with it closed, when it turned out to be dead."""
        raise NotImplementedError

    def _refuse(self, error: VisitorError) -> None:
        self.cancel()
        self._join.refuse(error)

    def _wait(self) -> None:
        """Wait until a connection is parked, in turn with the others who do."""
        if self._waiter is None:
            try:
                self._waiter = self._pool.wait(self._deadline, self._offered, self._in_vain, missed=self._missed)
            except PoolExhausted as error:
                self._exhausted(error)

    def _offered(self, end: SocketEnd) -> None:
        """A connection has come, and is ours. Where it is dead already, wait for the next."""
        self._waiter = None
        if not self._assign(end):
            self._wait()

    def _in_vain(self, error: PoolExhausted) -> None:
        self._waiter = None
        self._exhausted(error)

    def _exhausted(self, error: PoolExhausted) -> None:
        self._refuse(error)


class Assigning02(Assigning):
    """LTP/0.2: the assignment and the visitor's stream behind it, and nothing comes back."""

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
    """LTP/0.3: assigned under an id, on as many connections as it takes until one answers ``got``."""

    def __init__(self, join: Join, pool: Pool, deadline: Deadline) -> None:
        super().__init__(join, pool, deadline)
        self._frame = encode(join.assignment)
        self._attempts: dict[SocketEnd, Channel[FromClient]] = {}
        self._timer: Any = None
        self._round = 1 if pool.suspect else 0
        self._patience = limits.GOT_TIMEOUT
        self._seen = False

    def cancel(self) -> None:
        """Stop, and reset every connection that was assigned, so that its client drops the assignment."""
        super().cancel()
        self._stop_timer()
        for parked in list(self._attempts):
            self._drop(parked)

    def start(self) -> None:
        """Assign now if connections are parked, else when one comes. Never blocks."""
        self._fan_out()

    def _fan_out(self) -> None:
        """Assign on as many connections as this round has; where there is none at all, wait for one.

        After a miss the client is renewing its pool, and what it parks next is fresh: that is waited for as well.
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
        """Act on an answer. Returns whether it was the last that this connection gives here."""
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
        """The upstream is connected, and its stream begins right behind the message that said so."""
        _, received = channel.detach()
        try:
            stream, to_visitor = begin_stream(parked.sock, received)
        except FrameError as error:
            log.debug("stream refused", extra={"join": self._join.assignment.id, "detail": str(error)})
            parked.reset()
            self._refuse(UpstreamClosed())
            return
        self._join.joined(stream_end(parked, stream), to_visitor, self._join.first[limits.MAX_FIRST :], hold_eof=False)

    def _take_only(self, winner: SocketEnd) -> None:
        """``winner`` has the visitor: end every other attempt, and wait for the upstream."""
        super().cancel()
        self._pool.suspect = self._missed and self._pool.suspect
        self._seen = True
        for parked in [other for other in self._attempts if other is not winner]:
            self._drop(parked)
        self._deadline = Deadline(limits.READY_TIMEOUT)
        self._arm(limits.READY_TIMEOUT, self._no_ready)

    def _no_got_yet(self) -> None:
        """The least time is over; on a long way ``got`` may take a few round trips more. Most never come here."""
        round_trip = max((smoothed_round_trip(parked.sock) for parked in self._attempts), default=0.0)
        self._patience = max(limits.GOT_TIMEOUT, limits.GOT_ROUND_TRIPS * round_trip)
        more = self._patience - limits.GOT_TIMEOUT
        if more:
            self._arm(more, self._no_got)
        else:
            self._no_got()

    def _no_got(self) -> None:
        """Nobody answered in time: try more connections, unless time is up or the client has it already.

        Where the tunnel has ended meanwhile there are none, and what does not answer now will not.
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
        """An assigned connection has ended without an answer: that is a miss at once."""
        if len(self._attempts) > 1:
            self._drop(parked)
        elif self._seen:
            self._refuse(UpstreamClosed())
        else:
            self._no_got()
            if parked in self._attempts:
                self._drop(parked)

    def _exhausted(self, error: PoolExhausted) -> None:
        """No connection was parked in time; an answer may still come on one that was assigned before."""
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
