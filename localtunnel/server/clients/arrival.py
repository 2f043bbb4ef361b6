"""A client's connection from its first byte to its first message: TLS or not, and
within which time.

It owns no greenlet, however long the peer takes: a watcher, and a timer for each of the
two totals, that of the handshake and that of the message. Strangers hold thousands of
them.
"""

from collections.abc import Callable
from typing import Any

import gevent

from localtunnel.errors import DeadlineExceeded, LocaltunnelError
from localtunnel.net.channel import Channel, server_channel
from localtunnel.net.sockets import READ, Socket, translate
from localtunnel.net.tls.context import ServerContext
from localtunnel.net.tls.handshake import Handshake, is_tls_hello
from localtunnel.protocol.messages import FromClient
from localtunnel.server.config import Timeouts

Arrived = Callable[["Arrival", FromClient | None, LocaltunnelError | None], None]


class Arrival:
    """Owns ``sock`` until ``done(arrival, message, None)`` or ``done(arrival, None,
    error)``, which comes once.

    The connection is then the receiver's, as ``channel``. ``context`` None refuses TLS,
    as a server of 2013 does.
    """

    __slots__ = ("_context", "_done", "_handshake", "_timeouts", "_timer", "_watcher", "channel", "host")

    def __init__(
        self, sock: Socket, host: str, context: ServerContext | None, timeouts: Timeouts, done: Arrived
    ) -> None:
        self.host = host
        self.channel: Channel[FromClient] = server_channel(sock, "the client")
        self._context = context
        self._timeouts = timeouts
        self._done = done
        self._handshake: Handshake | None = None
        self._watcher: Any = None
        self._timer: Any = None

    def start(self) -> None:
        """Go as far as what has come allows, perhaps to the end."""
        self._look()

    def cancel(self) -> None:
        """Close, and tell nobody."""
        self._stop()
        if self._handshake is not None:
            self._handshake.cancel()
        else:
            self.channel.close()

    def _look(self) -> None:
        """Decide by the first byte what is spoken."""
        if self._context is None:
            self._receive()
            return
        try:
            hello = is_tls_hello(self.channel.sock)
        except OSError as error:
            self._finish(None, translate(error, "reading from the client"))
            return
        if hello is None:
            self._wait(self._look)
        elif hello:
            self._stop()
            try:
                self._handshake = Handshake(self.channel.sock, self._context, self._timeouts.handshake, self._shaken)
            except LocaltunnelError as error:
                # A peer that has reset the connection since its first byte was looked
                # at.
                self._finish(None, error)
                return
            self._handshake.start()
        else:
            self._receive()

    def _shaken(self, sock: Socket | None, error: LocaltunnelError | None) -> None:
        self._handshake = None
        if sock is None:
            self._finish(None, error)
        else:
            self.channel = server_channel(sock, "the client")
            self._receive()

    def _receive(self) -> None:
        try:
            message = self.channel.receive_ready()
        except LocaltunnelError as error:
            self._finish(None, error)
            return
        if message is None:
            self._wait(self._receive)
        else:
            self._finish(message, None)

    def _wait(self, callback: Callable[[], None]) -> None:
        """Call back when more has come; the time for the whole message counts from the
        first wait."""
        loop = gevent.get_hub().loop
        if self._watcher is None:
            self._watcher = loop.io(self.channel.sock.fileno(), READ)
            self._timer = loop.timer(self._timeouts.preamble)
            self._timer.start(self._expire)
        self._watcher.stop()
        self._watcher.start(callback)

    def _expire(self) -> None:
        self._finish(
            None, DeadlineExceeded(f"No whole message was received within {self._timeouts.preamble:g} seconds.")
        )

    def _finish(self, message: FromClient | None, error: LocaltunnelError | None) -> None:
        self._stop()
        self._done(self, message, error)

    def _stop(self) -> None:
        for watcher in (self._watcher, self._timer):
            if watcher is not None:
                watcher.close()
        self._watcher = self._timer = None
