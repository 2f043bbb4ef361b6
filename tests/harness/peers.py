"""Peers by hand, and those of LTP/0.2: a few lines of socket each, written from PROTOCOL.md and not from the code."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import gevent
from gevent import socket

from harness.sockets import Address, connect, listening, read_exactly, read_to_end
from harness.waiting import CAP
from harness.web import fetch, read_head, request

HEADER_0_2 = b"LTP/0.2"

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
"""What a raw client answers a visitor."""


def frame(message: object) -> bytes:
    """Return ``message`` as a frame; bytes are taken as the payload itself."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(payload).to_bytes(4, "big") + payload


def read_message(sock: socket.socket) -> Any:
    """Return the next frame's object."""
    size = int.from_bytes(read_exactly(sock, 4), "big")
    return json.loads(read_exactly(sock, size))


class ByHand(AbstractContextManager):
    """What a peer by hand has open. Closing it, or leaving it as a context, closes all of that."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def close(self) -> None:
        """Close every connection."""
        for sock in self.sockets:
            sock.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class ClientByHand(ByHand):
    """A client by hand: a control connection that begins with ``opening``, and what the server says on it.

    ``connect`` makes its connections: in the clear, unless it is ``harness.tls.tls_connect``.
    """

    def __init__(
        self, address: Address, name: str, opening: bytes, connect: Callable[..., socket.socket] = connect
    ) -> None:
        super().__init__()
        self.address = address
        self.name = name
        self.messages: list[Any] = []
        self._connect = connect
        self.control = self.open(opening)
        self.reply = read_message(self.control)
        self._heart: gevent.Greenlet | None = None

    def open(self, opening: bytes, *source: str | None) -> socket.socket:
        """Open a connection that begins with ``opening``."""
        sock = self._connect(self.address, *source)
        self.sockets.append(sock)
        sock.sendall(opening)
        return sock

    def beat(self) -> None:
        """Answer pings in the background, and keep other messages, until the connection ends or the peer is closed."""
        self._heart = gevent.spawn(self._beat)

    def ended(self) -> bool:
        """Say whether the control connection of a client that answers pings has ended."""
        return self._heart is not None and self._heart.dead

    def said(self, key: str) -> list[Any]:
        """Return what the server said under ``key`` on the control connection, heartbeats apart."""
        return [message[key] for message in self.messages if key in message]

    def _beat(self) -> None:
        self.control.settimeout(None)
        try:
            while True:
                message = read_message(self.control)
                if message == {"control": "ping"}:
                    self.control.sendall(frame({"control": "pong"}))
                else:
                    self.messages.append(message)
        except (AssertionError, OSError):
            return

    def close(self) -> None:
        """Stop answering pings, and close every connection."""
        if self._heart is not None:
            self._heart.kill()
        super().close()


class ServerByHand(ByHand):
    """A backend by hand: ``accept`` gives connections one by one, with the request that each began with.

    Like the server of 2013 it closes a connection that opens with another header, without a word.
    """

    header: bytes

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.listener = listening(port=port)
        self.listener.settimeout(CAP)
        self.port: int = self.listener.getsockname()[1]

    def accept_silently(self) -> socket.socket:
        """Return the next connection, of which nothing has been read."""
        sock, _ = self.listener.accept()
        sock.settimeout(CAP)
        self.sockets.append(sock)
        return sock

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that opens with the header of this server's version, and its request."""
        while True:
            sock = self.accept_silently()
            if sock.recv(len(self.header), socket.MSG_WAITALL) == self.header:
                return sock, read_message(sock)
            sock.close()

    def accept_control(self) -> tuple[socket.socket, Any]:
        """Return the next control connection and its request, passing over what an ended session left behind."""
        while True:
            sock, message = self.accept()
            if "control" in message:
                return sock, message
            sock.close()

    def stop_listening(self) -> None:
        """Refuse connections from here on."""
        self.listener.close()

    def close(self) -> None:
        """Close the listener and every connection."""
        self.listener.close()
        super().close()


class RawClient(ClientByHand):
    """A client of LTP/0.2 by hand; it answers pings from ``beat`` on."""

    def __init__(self, address: Address, name: str, client: str = "raw@test;Linux", **fields: Any) -> None:
        self.client = client
        super().__init__(address, name, HEADER_0_2 + frame({"control": {"name": name, "client": client, **fields}}))

    def park(self, source: str | None = None) -> socket.socket:
        """Open a proxy connection; the server says nothing until it is assigned."""
        return self.open(HEADER_0_2 + frame({"proxy": {"name": self.name, "client": self.client}}), source)

    def answer_one(self, proxy: socket.socket | None = None) -> bytes:
        """Answer the visitor to whom ``proxy``, or a new one, is assigned; returns the head that it sent."""
        proxy = proxy or self.park()
        assert read_message(proxy) == {"proxy": True}
        head = read_head(proxy)
        proxy.sendall(ANSWER)
        proxy.close()
        return head

    def serve_one_visitor(self, frontend: Address) -> None:
        """Send a visitor to the tunnel, answer it, and hold the answer to being whole."""
        visitor = gevent.spawn(fetch, frontend, request(f"{self.name}.localhost"))
        self.answer_one()
        assert visitor.get().body == b"ok"


class RawServer(ServerByHand):
    """A backend of LTP/0.2 by hand."""

    header = HEADER_0_2

    def open_tunnel(self, concurrency: int = 1, banner: str = "hello") -> socket.socket:
        """Accept a control connection, open its tunnel, and return it."""
        control, message = self.accept_control()
        host = f"{message['control']['name']}.example.com:8000"
        reply = {"host": host, "concurrency": concurrency, "banner": banner}
        control.sendall(frame({"control": reply}))
        return control

    def accept_proxy(self) -> socket.socket:
        """Return the next connection, which must be a proxy connection."""
        proxy, message = self.accept()
        assert set(message) == {"proxy"}
        return proxy


def assigned(proxy: socket.socket) -> bytes:
    """Wait for the assignment of LTP/0.2 and return the head that the visitor sent."""
    assert read_message(proxy) == {"proxy": True}
    return read_head(proxy)


def assert_error_and_close(sock: socket.socket, code: str) -> None:
    """Read an error of that code with a sentence, and the end of the connection."""
    message = read_message(sock)
    assert set(message) == {"error", "message"}
    assert message["error"] == code
    assert message["message"].endswith(".")
    assert read_to_end(sock) == b""
