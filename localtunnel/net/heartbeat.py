"""Keeping an LTP/0.3 control connection alive, on either side. Any traffic counts, and
two intervals may be missed."""

import time
from collections.abc import Callable
from typing import NoReturn

from localtunnel.errors import DeadlineExceeded
from localtunnel.net.channel import Channel, Received
from localtunnel.net.deadline import Deadline
from localtunnel.protocol.limits import MISSED_HEARTBEATS
from localtunnel.protocol.messages import PING, PONG, Ping, Pong


def keep_alive(
    channel: Channel[Received],
    interval: float,
    handle: Callable[[Received], None],
    measured: Callable[[float], None] = lambda seconds: None,
) -> NoReturn:
    """Ping every ``interval`` seconds, answer pings, and pass every other message to
    ``handle``; blocks the greenlet.

    ``measured`` gets the round trip of each ping in seconds. The function ends only by
    raising: DeadlineExceeded after MISSED_HEARTBEATS intervals without a message,
    Flooded when the peer sends too many, or the errors of ``channel.receive``,
    ``channel.send`` and ``handle``. The caller closes the channel.
    """
    channel.limit_pace(interval)
    heard = time.monotonic()
    pinged: float | None = None
    next_ping = heard
    while True:
        now = time.monotonic()
        if now - heard >= interval * MISSED_HEARTBEATS:
            raise DeadlineExceeded(f"Nothing was received from the peer for {now - heard:.1f} seconds.")
        if now >= next_ping:
            channel.send(PING)
            pinged, next_ping = now, now + interval
        try:
            message = channel.receive(Deadline(min(next_ping, heard + interval * MISSED_HEARTBEATS) - now))
        except DeadlineExceeded:
            continue
        heard = time.monotonic()
        if isinstance(message, Ping):
            channel.send(PONG)
        elif isinstance(message, Pong):
            if pinged is not None:
                measured(heard - pinged)
                pinged = None
        else:
            handle(message)
