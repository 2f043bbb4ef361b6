"""Channels of LTP on real sockets, with a peer by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gevent import socket

from harness.sockets import pair
from localtunnel.net.channel import Channel


@contextmanager
def channel_and_peer(make: Callable[..., Channel], *arguments: Any) -> Iterator[tuple[Channel, socket.socket]]:
    """Yield what ``make`` makes of one end of a connection, and the other end."""
    theirs, ours = pair()
    channel = make(theirs, *arguments)
    yield channel, ours
    channel.close()
    ours.close()
