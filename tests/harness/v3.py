"""Raw peers of LTP/0.3, and a link between client and server that a test can damage: written from PROTOCOL.md."""

import re
import struct
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from harness.peers import frame, read_message
from harness.sockets import Address, connect, listening, read_exactly
from harness.waiting import CAP, wait_until
from localtunnel import Server

HEADER_0_3 = b"LTP/0.3"
SESSION = "5e" * 16
"""What a raw server tells its clients: 128 bits in hexadecimal."""


def control_request(name: str, client: str = "raw@test;Linux", instance: str = "one", **fields: Any) -> bytes:
    """Return the bytes with which a client of LTP/0.3 begins its control connection."""
    return HEADER_0_3 + frame({"control": {"name": name, "client": client, "instance": instance, **fields}})


def proxy_request(name: str, session: str) -> bytes:
    """Return the bytes with which it begins a proxy connection."""
    return HEADER_0_3 + frame({"proxy": {"name": name, "session": session}})


def control_reply(size: int = 1, heartbeat: float = 5.0) -> bytes:
    """Return a server's answer to a control request."""
    reply = {"host": "demo.localhost", "concurrency": size, "banner": "", "url": "http://demo.localhost"}
    return frame({"control": {**reply, "session": SESSION, "heartbeat": heartbeat}})


def assignment(number: int, kind: str = "http") -> bytes:
    """Return a server's assignment."""
    return frame({"proxy": {"id": number, "peer": "203.0.113.7:51234", "kind": kind}})


def got(number: int) -> bytes:
    """Return what a client says when it has an assignment."""
    return frame({"got": number})


def ready(number: int) -> bytes:
    """Return what a client says when its upstream is connected."""
    return frame({"ready": number})


def failed(number: int, error: str) -> bytes:
    """Return what a client says when its upstream is not."""
    return frame({"failed": {"id": number, "error": error}})


def ask(address: Address, data: bytes) -> Any:
    """Send ``data`` on a connection of its own and return the answer."""
    with connect(address) as sock:
        sock.sendall(data)
        return read_message(sock)


class Peer:
    """A client of LTP/0.3 by hand. Heartbeats are answered from the start unless ``beat`` is False.

    ``connect`` makes its connections: in the clear, unless it is ``harness.tls.tls_connect``.
    """

    def __init__(
        self,
        address: Address,
        name: str = "demo",
        *,
        beat: bool = True,
        connect: Callable[[Address], socket.socket] = connect,
        **fields: Any,
    ) -> None:
        self.address = address
        self.connect = connect
        self.name = name
        self.messages: list[Any] = []
        self.proxies: list[socket.socket] = []
        self.control = connect(address)
        self.control.sendall(control_request(name, **fields))
        self.reply = read_message(self.control)
        self._heart = gevent.spawn(self._beat) if beat else None

    @property
    def session(self) -> str:
        """The secret of this tunnel."""
        session: str = self.reply["control"]["session"]
        return session

    def park(self, session: str | None = None) -> socket.socket:
        """Open a proxy connection."""
        proxy = self.connect(self.address)
        self.proxies.append(proxy)
        proxy.sendall(proxy_request(self.name, session or self.session))
        return proxy

    def said(self, key: str) -> list[Any]:
        """Return what the server said under ``key`` on the control connection, heartbeats apart."""
        return [message[key] for message in self.messages if key in message]

    def ended(self) -> bool:
        """Say whether the control connection has ended."""
        return self._heart is not None and self._heart.dead

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
        """Close every connection."""
        if self._heart is not None:
            self._heart.kill()
        for sock in (self.control, *self.proxies):
            sock.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawBackend:
    """A backend by hand, for a real client: connections one by one, each with its header and its request."""

    def __init__(self) -> None:
        self.listener = listening()
        self.listener.settimeout(CAP)
        self.port: int = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []

    def accept_silently(self) -> socket.socket:
        """Return the next connection, of which nothing has been read."""
        sock, _ = self.listener.accept()
        sock.settimeout(CAP)
        self.sockets.append(sock)
        return sock

    def accept(self, header: bytes = HEADER_0_3) -> tuple[socket.socket, Any]:
        """Return the next connection and its request, which must come behind ``header``."""
        sock = self.accept_silently()
        began = read_exactly(sock, len(header))
        assert began == header
        return sock, read_message(sock)

    def accept_control(self) -> tuple[socket.socket, Any]:
        """Return the next control connection and its request, passing over what an ended session left behind."""
        while True:
            sock = self.accept_silently()
            if sock.recv(len(HEADER_0_3), socket.MSG_WAITALL) == HEADER_0_3:
                message = read_message(sock)
                if "control" in message:
                    return sock, message

    def open_tunnel(self, size: int = 1, heartbeat: float = 5.0) -> socket.socket:
        """Accept a control connection, open its tunnel, and return it."""
        control, _ = self.accept_control()
        control.sendall(control_reply(size, heartbeat))
        return control

    def accept_proxy(self) -> socket.socket:
        """Return the next connection, which must be a proxy connection with the session's secret."""
        proxy, message = self.accept()
        assert message["proxy"]["session"] == SESSION
        return proxy

    def close(self) -> None:
        """Close every connection."""
        for sock in (self.listener, *self.sockets):
            sock.close()

    def __enter__(self) -> "RawBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parked(server: Server, name: str = "demo") -> int:
    """Return how many live connections the tunnel's pool has, as its repr says; 0 where there is no tunnel."""
    claim = server.registry.find(name)
    found = re.search(r"parked=(\d+)", repr(claim and claim.tunnel))
    return int(found[1]) if found else 0


def park(server: Server, peer: Peer, count: int = 1) -> list[socket.socket]:
    """Park ``count`` connections of ``peer``, one after the other, so that the last one is the newest."""
    made = []
    for _ in range(count):
        before = parked(server, peer.name)
        made.append(peer.park())
        wait_until(lambda before=before: parked(server, peer.name) > before, what="a connection is parked")
    return made


def end(sock: socket.socket, how: str) -> None:
    """End ``sock`` as a cut link does: the peer sees a FIN or an RST."""
    if how == "RST":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
