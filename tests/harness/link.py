"""A link between client and server that a test can cut, silence and read: a small relay for the backend's port."""

import json
import struct
import time
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer

from harness.sockets import Address, deafen, listening
from harness.waiting import POLL

KEPT = 4096
"""Bytes that are remembered of each direction: the messages at its beginning."""

_RESET = struct.pack("ii", 1, 0)


class Line:
    """One connection through the link: from the ``client`` side to the ``server`` side."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        *,
        loses_reply: bool = False,
        rate: float = 0.0,
        delay: float = 0.0,
    ) -> None:
        self._loses_reply = loses_reply
        self._rate = rate
        self._delay = delay
        self.client = client
        self.server = server
        self.from_client = bytearray()
        self.from_server = bytearray()
        self.silent = False
        self.since = time.monotonic()
        """When something passed last."""
        self.closed = False
        """Whether nothing of it is left."""
        self._ended = 0
        self._pumps = [
            gevent.spawn(self._pump, client, server, self.from_client),
            gevent.spawn(self._pump, server, client, self.from_server),
        ]

    @property
    def is_control(self) -> bool:
        """Whether the client has begun a control connection here."""
        return b'{"control"' in self.from_client[:32]

    @property
    def is_parked(self) -> bool:
        """Whether this is a proxy connection on which the server has said nothing yet."""
        return b'{"proxy"' in self.from_client[:32] and not self.from_server and not self.closed

    @property
    def reply(self) -> dict[str, Any] | None:
        """The control reply, once it has passed."""
        size = int.from_bytes(self.from_server[:4], "big")
        if len(self.from_server) < 4 + size or not self.is_control:
            return None
        reply: dict[str, Any] = json.loads(self.from_server[4 : 4 + size]).get("control")
        return reply

    def silence(self) -> None:
        """Lose everything from here on, without a word to either side."""
        self.silent = True

    def forget(self) -> None:
        """Do as a NAT that has forgotten the flow: lose everything, so that neither kernel is told that it arrived."""
        self.silence()
        for sock in (self.client, self.server):
            deafen(sock)

    def reset_client(self) -> None:
        """Send an RST to the client alone, as a router does that no longer knows the flow."""
        self._pumps[0].kill()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.client.close()

    def cut(self, *, reset: bool) -> None:
        """End both sides, with an RST or with a FIN. May be called twice."""
        self.closed = True
        gevent.killall(self._pumps)
        for sock in (self.client, self.server):
            if reset and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()

    def _pump(self, source: socket.socket, sink: socket.socket, passed: bytearray) -> None:
        try:
            while data := source.recv(65536):
                if self._loses_reply and source is self.server:
                    self._end()
                    return
                if not self.silent:
                    self.since = time.monotonic()
                    passed += data[: max(0, KEPT - len(passed))]
                    if self._delay:
                        gevent.sleep(self._delay)
                    sink.sendall(data)
                if self._rate and source is self.client:
                    gevent.sleep(len(data) / self._rate)
            if not self.silent:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            if not self.silent and not self.closed:
                self._pass_reset_on(sink)
        self._ended += 1
        if self._ended == len(self._pumps):
            self._end()

    def _end(self) -> None:
        self.closed = True
        self.client.close()
        self.server.close()

    def _pass_reset_on(self, sink: socket.socket) -> None:
        try:
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sink.close()
        except OSError:
            return


class Link:
    """Listens on ``port`` and passes every connection on to ``target``. A context manager.

    ``forgets_after`` makes it a NAT: a connection on which nothing passes for so many seconds is forgotten. ``rate`` is
    how many bytes a second it takes from whoever has connected; 0 is no limit. Each piece takes ``delay`` seconds.
    """

    def __init__(
        self, target: Address, *, forgets_after: float | None = None, rate: float = 0.0, delay: float = 0.0
    ) -> None:
        self._rate = rate
        self._delay = delay
        self.lines: list[Line] = []
        self._loses_reply = False
        self._target = target
        self._server = StreamServer(listening(backlog=1024), self._accept)
        # A StreamServer closes a socket when its handler returns; these belong to their line.
        self._server.do_close = lambda *_: None
        self._server.start()
        self.port: int = self._server.server_port
        self._forgetting = None if forgets_after is None else gevent.spawn(self._forget_idle, forgets_after)

    def _forget_idle(self, seconds: float) -> None:
        while True:
            for line in self.lines:
                if not line.silent and not line.closed and time.monotonic() - line.since >= seconds:
                    line.forget()
            gevent.sleep(POLL)

    def _accept(self, client: socket.socket, _: object) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines.append(Line(client, server, loses_reply=self._loses_reply, rate=self._rate, delay=self._delay))
        self._loses_reply = False

    def lose_reply_of_next(self) -> None:
        """Cut the next connection as soon as the server answers on it, before its client has heard anything."""
        self._loses_reply = True

    @property
    def controls(self) -> list[Line]:
        """The control connections that were not cut, the newest last."""
        return [line for line in self.lines if line.is_control and not line.closed]

    @property
    def parked(self) -> list[Line]:
        """The proxy connections that lie idle and work, the newest last."""
        return [line for line in self.lines if line.is_parked and not line.silent]

    def forget(self) -> None:
        """Forget the lines of which nothing is left."""
        self.lines = [line for line in self.lines if not line.closed]

    def close(self) -> None:
        """Take no more connections, and cut all."""
        if self._forgetting is not None:
            self._forgetting.kill()
        self._server.stop(timeout=0)
        for line in self.lines:
            line.cut(reset=True)

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
