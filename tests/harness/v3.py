"""Peers of LTP/0.3 by hand: written from PROTOCOL.md and not from the code."""

import struct
from collections.abc import Callable
from typing import Any

from gevent import socket

from harness.peers import ClientByHand, ServerByHand, frame, read_message
from harness.sockets import Address, connect, read_exactly
from harness.waiting import wait_until
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


def come_back(**fields: Any) -> bytes:
    """Return the bytes with which a client asks for a connection, whose stream has ended, to be parked again."""
    return frame({"proxy": fields})


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


class Peer(ClientByHand):
    """A client of LTP/0.3 by hand. Heartbeats are answered from the start unless ``beat`` is False."""

    def __init__(
        self,
        address: Address,
        name: str = "demo",
        *,
        beat: bool = True,
        connect: Callable[..., socket.socket] = connect,
        **fields: Any,
    ) -> None:
        super().__init__(address, name, control_request(name, **fields), connect)
        if beat:
            self.beat()

    @property
    def session(self) -> str:
        """The secret of this tunnel."""
        session: str = self.reply["control"]["session"]
        return session

    def park(self, session: str | None = None) -> socket.socket:
        """Open a proxy connection."""
        return self.open(proxy_request(self.name, session or self.session))


class RawBackend(ServerByHand):
    """A backend of LTP/0.3 by hand."""

    header = HEADER_0_3

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection, which must open with the header of LTP/0.3, and its request."""
        sock = self.accept_silently()
        assert read_exactly(sock, len(self.header)) == self.header
        return sock, read_message(sock)

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


def parked(server: Server, name: str = "demo") -> int:
    """Return how many live connections the tunnel's pool has; 0 where there is no tunnel."""
    claim = server.registry.find(name)
    return claim.tunnel.parked if claim and claim.tunnel else 0


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
