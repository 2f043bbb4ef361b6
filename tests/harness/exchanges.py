"""A visitor and an upstream by hand, with a server between them that understands HTTP: the test plays both.

Imported by itself. The peers know as much of HTTP as is needed to see where a message ends, and nothing of the code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import msgspec
from gevent import socket, ssl

from harness.inprocess import backend, frontend, running_server
from harness.peers import RawClient, read_message
from harness.sockets import LOOPBACK, Address, connect, read_exactly
from harness.tls import tls_connect
from harness.v3 import Peer, come_back, got, parked, ready
from harness.waiting import CAP, wait_until
from localtunnel import Server

VERSIONS = ["0.2", "0.3"]
HOST = "demo.localhost"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
"""The shortest response after which a connection stays."""


class Message(msgspec.Struct):
    """A request or a response: its first line, its fields by lower-case name, its body and the trailer behind that."""

    head: bytes
    start: str
    fields: dict[str, str]
    body: bytes = b""
    trailer: bytes = b""

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split()[1])

    @property
    def target(self) -> str:
        """The target of a request."""
        return self.start.split()[1]


class Stream:
    """One end of a connection, read message by message."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._data = bytearray()

    def send(self, *pieces: bytes) -> None:
        """Send every piece, and let whoever reads take each by itself."""
        for piece in pieces:
            self.sock.sendall(piece)
            if len(pieces) > 1:
                gevent.sleep(0.001)

    def until(self, mark: bytes) -> bytes:
        """Return what comes up to and including ``mark``."""
        while mark not in self._data:
            assert self._more(), f"the stream ended after {bytes(self._data[-200:])!r}"
        size = self._data.index(mark) + len(mark)
        return self.exactly(size)

    def exactly(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        while len(self._data) < size:
            assert self._more(), f"the stream ended after {len(self._data)} of {size} bytes"
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def rest(self) -> bytes:
        """Return what comes up to the end. A reset raises ConnectionResetError."""
        while self._more():
            pass
        return self.exactly(len(self._data))

    def head(self) -> Message:
        """Return the head of the next message."""
        head = self.until(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")[:-2]
        return Message(head, start, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)})

    def message(self, method: str = "") -> Message:
        """Return the next message: a request, or the response to ``method``, which may end with the connection."""
        message = self.head()
        is_request = not message.start.startswith("HTTP/")
        if not is_request and (method == "HEAD" or message.status < 200 or message.status in (204, 304)):
            return message
        if "chunked" in message.fields.get("transfer-encoding", ""):
            message.body, message.trailer = self._chunks()
        elif "content-length" in message.fields:
            message.body = self.exactly(int(message.fields["content-length"]))
        elif not is_request:
            message.body = self.rest()
        return message

    def waiting(self) -> bytes:
        """Return what has arrived by now and was not read, without waiting for more."""
        self.sock.setblocking(False)
        try:
            while piece := self.sock.recv(1 << 16):
                self._data += piece
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(CAP)
        return bytes(self._data)

    def was_reset(self) -> bool:
        """Read to the end, and say whether that was a reset."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def _chunks(self) -> tuple[bytes, bytes]:
        body = b""
        while size := int(self.until(b"\r\n").partition(b";")[0], 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        trailer = b""
        while (line := self.until(b"\r\n")) != b"\r\n":
            trailer += line
        return body, trailer

    def _more(self) -> bool:
        piece = self.sock.recv(1 << 16)
        self._data += piece
        return piece != b""


class ChunkedStream(Stream):
    """The client's end of a stream over TLS, which is in chunks with a mark at its end."""

    def send(self, *pieces: bytes) -> None:
        """Send every piece as a chunk, and let whoever reads take each by itself."""
        super().send(*(len(piece).to_bytes(4, "big") + piece for piece in pieces))

    def finish(self, behind: bytes = b"") -> None:
        """End this direction, with ``behind`` in the record of the mark."""
        self.sock.sendall(bytes(4) + behind)

    def _more(self) -> bool:
        size = int.from_bytes(read_exactly(self.sock, 4), "big")
        self._data += read_exactly(self.sock, size)
        return size > 0


class Tunnel:
    """A raw client of one version with a tunnel, whose proxy connections the test answers as the upstream."""

    def __init__(self, server: Server, version: str, name: str, **fields: Any) -> None:
        self.server = server
        self.name = name
        self.version = version
        peer = RawClient if version == "0.2" else Peer
        self.peer: Any = peer(backend(server), name, **fields)
        if version == "0.2":
            self.peer.beat()

    @property
    def tunnel(self) -> Any:
        """The server's object for it."""
        claim = self.server.registry.find(self.name)
        return claim and claim.tunnel

    def park(self) -> socket.socket:
        """Open a proxy connection, and wait until the server has parked it."""
        before = parked(self.server, self.name)
        proxy: socket.socket = self.peer.park()
        wait_until(lambda: parked(self.server, self.name) > before, what="a connection is parked")
        return proxy

    def joined(self, proxy: socket.socket) -> Stream:
        """Wait until ``proxy`` is assigned, accept that, and return it: the next byte is the visitor's."""
        assignment = read_message(proxy)["proxy"]
        if assignment is not True:
            proxy.sendall(got(assignment["id"]) + ready(assignment["id"]))
        return ChunkedStream(proxy) if isinstance(proxy, ssl.SSLSocket) else Stream(proxy)

    def asking_back(self, **fields: Any) -> bytes:
        """Return the request by which one of its connections comes back, with ``fields`` instead of the right ones."""
        return come_back(**{"name": self.name, "session": self.peer.session, "delivered": 0, **fields})

    def close(self) -> None:
        """Close every connection."""
        self.peer.close()


class Site:
    """A server with one tunnel, "demo", and its visitors."""

    def __init__(self, server: Server, version: str, **fields: Any) -> None:
        self.server = server
        self.tunnels = [Tunnel(server, version, "demo", **fields)]
        self.demo = self.tunnels[0]
        self.visitors: list[Stream] = []
        self._is_tcp = fields.get("kind") == "tcp"

    @property
    def address(self) -> Address:
        """Where visitors connect."""
        if self._is_tcp:
            return LOOPBACK, int(self.demo.peer.reply["control"]["host"].rpartition(":")[2])
        return frontend(self.server)

    @property
    def edge(self) -> Any:
        """The server's edge."""
        return self.server._frontend._edge

    def another(self, name: str, **fields: Any) -> Tunnel:
        """Open one more tunnel, by a client of its own."""
        person = {"client": f"{name}@test;Linux"}
        self.tunnels.append(Tunnel(self.server, self.demo.version, name, **person, **fields))
        return self.tunnels[-1]

    def visit(self, *pieces: bytes, source: str | None = None) -> Stream:
        """Connect as a visitor, and send ``pieces``."""
        visitor = Stream(connect(self.address, source))
        self.visitors.append(visitor)
        visitor.send(*pieces)
        return visitor

    def join(self, *pieces: bytes, proxy: socket.socket | None = None) -> tuple[Stream, Stream]:
        """Send a visitor in, and return both ends of its exchange: the visitor's and the upstream's.

        ``proxy`` is the newest connection that is parked, if one is to be used.
        """
        proxy = proxy or self.demo.park()
        visitor = self.visit(*pieces)
        return visitor, self.demo.joined(proxy)

    def recycle(self, upstream: Stream, **fields: Any) -> None:
        """End the client's direction of a stream whose other one has ended, and have its connection parked again."""
        assert isinstance(upstream, ChunkedStream)
        assert upstream.rest() == b""
        before = parked(self.server, self.demo.name)
        upstream.finish(self.demo.asking_back(**fields))
        wait_until(lambda: parked(self.server, self.demo.name) > before, what="the connection is parked again")

    def close(self) -> None:
        """Close every connection."""
        for visitor in self.visitors:
            visitor.close()
        for tunnel in self.tunnels:
            tunnel.close()


@contextmanager
def running_site(version: str, fields: dict[str, Any] | None = None, **settings: Any) -> Iterator[Site]:
    """Run a server with ``settings``, and a client of ``version`` that asks for its tunnel with ``fields``."""
    with running_server(**settings) as server:
        site = Site(server, version, **(fields or {}))
        try:
            yield site
        finally:
            site.close()


@contextmanager
def recycling_site(fields: dict[str, Any] | None = None, **settings: Any) -> Iterator[Site]:
    """Run a server, and a client of LTP/0.3 over TLS whose connections come back."""
    with running_site("0.3", {"connect": tls_connect, "recycle": True, **(fields or {})}, **settings) as site:
        assert site.demo.peer.reply["control"]["recycle"] is True
        yield site
