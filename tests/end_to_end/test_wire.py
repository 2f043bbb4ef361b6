"""The bytes of LTP/0.2, from PROTOCOL.md alone: a client of a few lines at our server, a server of a few at our client.

Nothing here uses our code or the harness's raw peers for what is on the wire: this is what another implementation does.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.queue import Queue
from harness import (
    CAP,
    LOOPBACK,
    ClientProcess,
    ServerProcess,
    answer_hello,
    connect,
    fetch,
    forwarded,
    listening,
    parse_response,
    read_exactly,
    read_to_end,
    request,
    running_upstream,
    unused_port,
)

HEADER = b"LTP/0.2"
IDENTITY = "someone@elsewhere;Plan 9"


def send(sock: socket.socket, message: object, header: bytes = b"") -> None:
    payload = json.dumps(message).encode()
    sock.sendall(header + struct.pack(">I", len(payload)) + payload)


def receive(sock: socket.socket) -> Any:
    (size,) = struct.unpack(">I", read_exactly(sock, 4))
    return json.loads(read_exactly(sock, size))


# A client, at our server.


def open_tunnel(backend: tuple[str, int], name: str) -> tuple[socket.socket, Any]:
    control = connect(backend)
    send(control, {"control": {"name": name, "client": IDENTITY}}, HEADER)
    return control, receive(control)


def offer(backend: tuple[str, int], name: str) -> socket.socket:
    proxy = connect(backend)
    send(proxy, {"proxy": {"name": name, "client": IDENTITY}}, HEADER)
    return proxy


def test_foreign_client_serves_visitors() -> None:
    with ServerProcess("--pool-size=3", config="[timeouts]\nheartbeat = 0.2\n") as server:
        control, reply = open_tunnel(server.backend, "foreign")
        assert reply["control"]["host"] == f"foreign.localhost:{server.frontend[1]}"
        assert reply["control"]["concurrency"] == 3
        assert reply["control"]["banner"]

        for _ in range(3):
            assert receive(control) == {"control": "ping"}
            send(control, {"control": "pong"})

        proxy = offer(server.backend, "foreign")
        with connect(server.frontend) as visitor:
            visitor.sendall(request("foreign.localhost", "/path"))
            assert receive(proxy) == {"proxy": True}
            wanted = forwarded(request("foreign.localhost", "/path"))
            assert read_exactly(proxy, len(wanted)) == wanted
            proxy.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfrom afar")
            proxy.close()
            assert parse_response(read_to_end(visitor)).body == b"from afar"

        control.close()
        server.wait_for_record("tunnel closed")
        assert fetch(server.frontend, request("foreign.localhost")).status == 404


def test_foreign_client_is_refused_a_name_in_use() -> None:
    with ServerProcess() as server:
        control, _ = open_tunnel(server.backend, "taken")
        other = connect(server.backend)
        send(other, {"control": {"name": "taken", "client": "other@elsewhere;Plan 9"}}, HEADER)

        answer = receive(other)

        assert answer["error"] == "unavailable"
        assert answer["message"]
        assert read_to_end(other) == b""
        control.close()


def test_foreign_client_is_told_that_its_tunnel_is_not_there() -> None:
    with ServerProcess() as server:
        proxy = offer(server.backend, "nobodys")

        assert receive(proxy)["error"] == "expired"
        assert read_to_end(proxy) == b""


# A server, at our client.


class ForeignServer:
    """Speaks 0.2 only: a connection that opens with any other header is closed without a word."""

    def __init__(self) -> None:
        self._listener = listening()
        self.backend = f"{LOOPBACK}:{self._listener.getsockname()[1]}"
        self.controls: Queue[tuple[socket.socket, Any]] = Queue()
        self.proxies: Queue[tuple[socket.socket, Any]] = Queue()
        self._acceptor = gevent.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            sock.settimeout(CAP)
            if read_exactly(sock, len(HEADER)) != HEADER:
                sock.close()
                continue
            message = receive(sock)
            queue = self.controls if "control" in message else self.proxies
            queue.put((sock, message))

    def close(self) -> None:
        self._acceptor.kill()
        self._listener.close()
        for queue in (self.controls, self.proxies):
            while not queue.empty():
                queue.get()[0].close()


@pytest.fixture
def foreign_server() -> Iterator[ForeignServer]:
    server = ForeignServer()
    yield server
    server.close()


def start_client(server: ForeignServer, target: int, *arguments: str) -> ClientProcess:
    return ClientProcess(
        target, f"--backend={server.backend}", "--legacy", *arguments, server=(LOOPBACK, unused_port()), name="demo"
    )


def test_foreign_server_opens_a_tunnel_and_joins_visitors(foreign_server: ForeignServer) -> None:
    with running_upstream(answer_hello) as port, start_client(foreign_server, port) as client:
        control, message = foreign_server.controls.get(timeout=CAP)
        assert message["control"]["name"] == "demo"
        identity = message["control"]["client"]
        assert identity
        reply = {"host": "demo.example.com:8000", "concurrency": 2, "banner": "welcome"}
        send(control, {"control": reply})
        opened = client.wait_for_event("tunnel_opened")
        assert (opened["url"], opened["banner"]) == ("http://demo.example.com:8000", "welcome")

        send(control, {"control": "ping"})
        assert receive(control) == {"control": "pong"}

        for _ in range(5):
            proxy, offered = foreign_server.proxies.get(timeout=CAP)
            assert offered == {"proxy": {"name": "demo", "client": identity}}
            send(proxy, {"proxy": True})
            proxy.sendall(request("demo.example.com"))
            assert parse_response(read_to_end(proxy)).body == b"hello"
            proxy.close()


def test_foreign_server_is_asked_for_no_more_than_its_concurrency(foreign_server: ForeignServer) -> None:
    """A connection is offered for each one that was joined: five parked, one joined, and six have come in all."""
    with running_upstream(answer_hello) as port, start_client(foreign_server, port) as client:
        control, _ = foreign_server.controls.get(timeout=CAP)
        send(control, {"control": {"host": "demo.example.com", "concurrency": 5, "banner": ""}})
        proxies = [foreign_server.proxies.get(timeout=CAP)[0] for _ in range(5)]
        send(proxies[0], {"proxy": True})
        proxies[0].sendall(request("demo.example.com"))
        assert parse_response(read_to_end(proxies[0])).body == b"hello"
        proxies.append(foreign_server.proxies.get(timeout=CAP)[0])

        # The client answers in order: a seventh connection would have been offered before this pong.
        send(control, {"control": "ping"})
        assert receive(control) == {"control": "pong"}
        assert foreign_server.proxies.empty()

        assert client.process.poll() is None
        for proxy in proxies:
            proxy.close()


def test_upstream_is_not_dialled_before_the_assignment(foreign_server: ForeignServer) -> None:
    dialled: Queue[bool] = Queue()

    def answer(sock: socket.socket) -> None:
        dialled.put(True)
        answer_hello(sock)

    with running_upstream(answer) as port, start_client(foreign_server, port):
        control, _ = foreign_server.controls.get(timeout=CAP)
        send(control, {"control": {"host": "demo.example.com", "concurrency": 1, "banner": ""}})
        proxy, _ = foreign_server.proxies.get(timeout=CAP)
        send(control, {"control": "ping"})
        assert receive(control) == {"control": "pong"}
        assert dialled.empty()

        send(proxy, {"proxy": True})
        assert dialled.get(timeout=CAP)
        proxy.close()


def test_foreign_server_refuses_the_name(foreign_server: ForeignServer) -> None:
    """The client asks twice: it began with a version that got no answer, and that may have left the name its own."""
    with start_client(foreign_server, 1, "--no-retry") as client:
        for _ in range(2):
            control, _ = foreign_server.controls.get(timeout=CAP)
            send(control, {"error": "unavailable", "message": "Somebody else has it."})
            control.close()

        assert client.wait() == 5
        assert "Somebody else has it." in client.stderr
