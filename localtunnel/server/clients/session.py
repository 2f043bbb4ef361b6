"""A control connection: the client's request, and the messages while its tunnel is
open.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import NoReturn

from localtunnel.errors import DeadlineExceeded, LocaltunnelError, RefusedError
from localtunnel.net import closing
from localtunnel.net.channel import Channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.heartbeat import keep_alive
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import (
    Concurrency,
    ControlReply,
    ControlRequest,
    ErrorReply,
    FromClient,
    Message,
    Notice,
    Release,
    Replaced,
)
from localtunnel.server.config import Timeouts
from localtunnel.server.tunnels.demand import Announcing
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.tunnels.refusals import Refusals
from localtunnel.server.tunnels.tunnel import REPLACED

log = logging.getLogger("localtunnel.server")

NOTICE_INTERVAL = 10.0
"""Seconds between two notices to one client about requests that were refused. Each
notice covers all requests since the last one."""

ClientChannel = Channel[FromClient]


class Released(Exception):
    """The client gave its tunnel up."""


class ControlSession:
    """A control connection, which owns the tunnel that it opens (``TunnelOwner``).

    It does not refer to the tunnel, so the two form no cycle. It sends nothing before
    ``accept``, when the client has no tunnel yet, and nothing after ``close``, when the
    channel is closed or lingers behind its last message.
    """

    def __init__(self, channel: ClientChannel, request: ControlRequest, host: str, timeouts: Timeouts) -> None:
        """``host`` is the client's address."""
        self.channel = channel
        self.version = channel.version
        self.request = request
        self.host = host
        self._timeouts = timeouts
        self._is_open = False
        self._announcing: Announcing | None = None
        self._last_notice = self._last_renewal = -math.inf

    def accept(self, reply: ControlReply) -> None:
        """Tell the client that its tunnel is open. Raises what the channel does."""
        self.channel.limit(limits.MAX_HEARTBEAT)
        self.channel.send(reply)
        self._is_open = True
        if self.version.speaks_freely:
            self._announcing = Announcing(reply.concurrency, lambda size: self.tell(Concurrency(size)))

    def keep(self, measured: Callable[[float], None]) -> NoReturn:
        """Exchange heartbeats until an exception ends the connection.

        That is Released or an error of the channel. ``measured(seconds)`` is called
        with each round trip to an LTP/0.3 client.
        """
        if not self.version.speaks_freely:
            self._ping_and_wait()
        keep_alive(self.channel, self._timeouts.heartbeat, _handle, measured)

    def close(self) -> None:
        """Stop sending. The caller still owns the channel. Idempotent."""
        self._is_open = False
        if self._announcing is not None:
            self._announcing.close()
            self._announcing = None

    def tell(self, message: Message) -> None:
        """Send ``message`` if the client's version has it.

        Where that fails, the greenlet in ``keep`` wakes and ends the connection.
        """
        if not self._is_open or not (self.version.speaks_freely or isinstance(message, ErrorReply)):
            return
        try:
            self.channel.send(message)
        except LocaltunnelError as error:
            log.debug("message not sent", extra={"tunnel": self.request.name, "error": error.code})
            closing.wake(self.channel.sock)

    def resize(self, size: int) -> None:
        """Ask the client to park ``size`` connections."""
        if self._announcing is not None:
            self._announcing.changed(size)

    def renew(self, pool: Pool) -> None:
        """Ask the client for fresh connections.

        It cannot know that those in ``pool`` have died. This is done at most once in a
        heartbeat's interval: a lossy network misses now and then, and a renewal costs a
        whole pool. A middle box that forgets flows sooner than that forgets the control
        connection as well.
        """
        now = time.monotonic()
        if self._announcing is not None and now - self._last_renewal >= self._timeouts.heartbeat:
            self._last_renewal = now
            pool.outdate()
            self._announcing.renew()

    def turned_away(self, refusals: Refusals) -> None:
        """Tell the client of ``refusals``.

        If the last notice is too recent, they wait for the next one.
        """
        now = time.monotonic()
        if self._is_open and self.version.speaks_freely and now - self._last_notice >= NOTICE_INTERVAL:
            self._last_notice = now
            self.tell(Notice(refusals.take()))

    def ended(self, reason: str, verdict: RefusedError | None) -> None:
        """Wake the greenlet in ``keep``.

        The client is told the reason first, if its version has a message for it.
        """
        if not self._is_open:
            return
        if reason == REPLACED:
            self.tell(Replaced("Another run of this client has taken over the tunnel."))
        elif verdict is not None:
            self.tell(ErrorReply(verdict.code, str(verdict)))
        closing.wake(self.channel.sock)

    def _ping_and_wait(self) -> NoReturn:
        """Ping for as long as pongs come back in time.

        The state table allows the client one message for each ping, so it has no way to
        flood.
        """
        while True:
            self.channel.send(messages.PING)
            sent = time.monotonic()
            self.channel.receive(Deadline(self._timeouts.heartbeat_reply))
            idle = Deadline(max(0.001, self._timeouts.heartbeat - (time.monotonic() - sent)))
            try:
                self.channel.receive(idle)
            except DeadlineExceeded:
                continue


def _handle(message: FromClient) -> None:
    if isinstance(message, Release):
        raise Released
