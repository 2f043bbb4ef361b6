"""What web servers do with a connection besides answering a request, through both programs."""

import base64
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
import websocket
from gevent import socket
from gevent.event import AsyncResult, Event
from harness import (
    CAP,
    Address,
    ClientProcess,
    Handler,
    ServerProcess,
    at_most,
    connect,
    parse_response,
    read_exactly,
    read_head,
    read_to_end,
    request,
    running_upstream,
)
from harness.beside import curl

MEGABYTE = 1 << 20
REST = random.Random(3).randbytes(10 * MEGABYTE)
"""What is still to come in one direction after the other has ended."""

WEBSOCKET_ID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server appends to the client's key (RFC 6455 1.3)."""


@pytest.fixture(scope="module", params=['"only"', "false"], ids=["0.2", "0.3"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server that speaks one version, to which the client falls back if need be."""
    with ServerProcess(config=f"legacy = {request.param}\n") as running:
        yield running


@pytest.fixture(scope="module", params=['"only"', "false"], ids=["0.2", "0.3"])
def plain_server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """The same in join mode, which knows no end of a response."""
    with ServerProcess(config=f'legacy = {request.param}\nedge = "join"\n') as running:
        yield running


@contextmanager
def tunnel(server: ServerProcess, handler: Handler) -> Iterator[tuple[Address, str]]:
    """Expose an upstream of ``handler``; yields the frontend and the tunnel's host."""
    with running_upstream(handler) as port, ClientProcess(port, "--legacy", server=server.frontend) as client:
        yield server.frontend, client.wait_until_open().removeprefix("http://")


# WebSocket.


def echo_messages(sock: socket.socket) -> None:
    """Be a WebSocket server (RFC 6455) that sends every unfragmented message back, up to the closing one."""
    head = read_head(sock).decode()
    key = next(line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(f"{key}{WEBSOCKET_ID}".encode()).digest()).decode()
    switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    sock.sendall(f"{switching}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    first = 0
    while first & 0x0F != websocket.ABNF.OPCODE_CLOSE:
        first, payload = read_frame(sock)
        sock.sendall(bytes([first]) + frame_length(payload) + payload)


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Return a client's frame (RFC 6455 5.2): its first byte and the payload without its mask."""
    first, length = read_exactly(sock, 2)
    size = length & 0x7F
    if size >= 126:
        size = int.from_bytes(read_exactly(sock, 2 if size == 126 else 8), "big")
    mask = read_exactly(sock, 4)
    masked = read_exactly(sock, size)
    return first, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


def frame_length(payload: bytes) -> bytes:
    """Return the length field of an unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes([size])
    return b"\x7e" + size.to_bytes(2, "big") if size <= 0xFFFF else b"\x7f" + size.to_bytes(8, "big")


def test_websocket_echo(server: ServerProcess) -> None:
    with tunnel(server, echo_messages) as (frontend, host):
        chat = websocket.create_connection(f"ws://{host}/", socket=connect(frontend), enable_multithread=False)
        large = random.Random(4).randbytes(70_000)

        for text in ("one", "zwei", "三"):
            chat.send(text)
            assert chat.recv() == text
        chat.send_binary(large)
        assert chat.recv() == large
        chat.ping("still there?")
        opcode, data = chat.recv_data(control_frame=True)
        assert (opcode, bytes(data)) == (websocket.ABNF.OPCODE_PING, b"still there?")
        chat.close(timeout=CAP)
        assert not chat.connected


# Server-sent events.


def test_server_sent_events_are_not_buffered(server: ServerProcess) -> None:
    """Each event is sent only once the visitor has received the one before it."""
    received = [Event() for _ in range(20)]

    def send_events(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for number, event in enumerate(received):
            sock.sendall(b"data: %d\n\n" % number)
            event.wait()

    with tunnel(server, send_events) as (frontend, host), connect(frontend) as visitor:
        visitor.sendall(request(host))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += visitor.recv(1)
        for number, event in enumerate(received):
            expected = b"data: %d\n\n" % number
            assert read_exactly(visitor, len(expected)) == expected
            event.set()

        assert read_to_end(visitor) == b""


# Expect: 100-continue.


@pytest.mark.slow
def test_curl_sends_its_body_after_100_continue(server: ServerProcess, tmp_path: Path) -> None:
    """curl is told to wait for the interim response far longer than the test lasts."""
    body = random.Random(5).randbytes(2 * MEGABYTE)
    (tmp_path / "body.bin").write_bytes(body)
    before = AsyncResult()

    def receive(sock: socket.socket) -> None:
        head, _, early = read_head(sock).partition(b"\r\n\r\n")
        before.set((b"expect: 100-continue" in head.lower(), early))
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        digest = hashlib.sha256(read_exactly(sock, len(body))).hexdigest()
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + digest.encode())

    with tunnel(server, receive) as (_, host):
        options = "--header", "Expect: 100-continue", "--expect100-timeout", "60"
        done = curl(f"http://{host}/", *options, "--data-binary", f"@{tmp_path / 'body.bin'}", limit=CAP)

    assert done.returncode == 0, done.stderr
    assert before.get(timeout=CAP) == (True, b"")
    assert done.stdout.decode() == hashlib.sha256(body).hexdigest()


# Ends of streams.


@pytest.mark.slow
def test_response_that_ends_with_its_connection(server: ServerProcess) -> None:
    def answer(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        sock.sendall(REST)

    with tunnel(server, answer) as (_, host):
        done = curl(f"http://{host}/", limit=CAP)

    assert done.returncode == 0, done.stderr
    assert done.stdout == REST


def test_response_goes_on_after_the_visitor_has_ended(server: ServerProcess) -> None:
    """Nothing is answered before the visitor has ended its side; the upstream learns of that when it ends its own."""
    visitor_ended = Event()
    upstream_saw = AsyncResult()

    def answer(sock: socket.socket) -> None:
        read_head(sock)
        visitor_ended.wait()
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        sock.sendall(REST)
        sock.shutdown(socket.SHUT_WR)
        upstream_saw.set(sock.recv(1))

    with tunnel(server, answer) as (frontend, host), connect(frontend) as visitor:
        visitor.sendall(request(host))
        visitor.shutdown(socket.SHUT_WR)
        visitor_ended.set()

        response = parse_response(read_to_end(visitor))
        assert upstream_saw.get(timeout=CAP) == b""

    assert response.status == 200
    assert response.body == REST


def test_upload_goes_on_after_the_upstream_has_ended(plain_server: ServerProcess) -> None:
    """The visitor sends nothing more before it has seen the end of the response."""
    uploaded = AsyncResult()

    def answer(sock: socket.socket) -> None:
        early = read_head(sock).partition(b"\r\n\r\n")[2]
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\ngo on")
        sock.shutdown(socket.SHUT_WR)
        uploaded.set(early + read_to_end(sock))

    with tunnel(plain_server, answer) as (frontend, host), connect(frontend) as visitor:
        visitor.sendall(request(host, method="POST", fields=f"Content-Length: {len(REST)}\r\n"))
        response = parse_response(read_to_end(visitor))
        visitor.sendall(REST)
        visitor.shutdown(socket.SHUT_WR)

        with at_most(CAP, "the upload"):
            received = uploaded.get()

    assert (response.status, response.body) == (200, b"go on")
    assert received == REST


def test_both_directions_carry_bytes_at_the_same_time(server: ServerProcess) -> None:
    uploaded = AsyncResult()

    def exchange(sock: socket.socket) -> None:
        early = read_head(sock).partition(b"\r\n\r\n")[2]
        reading = gevent.spawn(read_exactly, sock, len(REST) - len(early))
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        sock.sendall(REST)
        uploaded.set(early + reading.get())

    with tunnel(server, exchange) as (frontend, host), connect(frontend) as visitor:
        sending = gevent.spawn(visitor.sendall, request(host, method="POST", body=REST))
        response = parse_response(read_to_end(visitor))
        sending.get(timeout=CAP)

        assert response.body == REST
        assert uploaded.get(timeout=CAP) == REST


def test_upstream_that_reads_to_the_end_learns_of_it_in_0_3_and_join_mode() -> None:
    """LTP/0.2 holds the visitor's end back from its clients, and such an upstream would wait for long."""

    def answer(sock: socket.socket) -> None:
        _, _, early = read_head(sock).partition(b"\r\n\r\n")
        body = early + read_to_end(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n%d" % len(body))

    with (
        ServerProcess(config='edge = "join"\n') as server,
        tunnel(server, answer) as (frontend, host),
        connect(frontend) as visitor,
    ):
        visitor.sendall(request(host, method="POST", fields="Transfer-Encoding: chunked\r\n"))
        visitor.sendall(REST)
        visitor.shutdown(socket.SHUT_WR)
        with at_most(CAP, "the answer"):
            assert parse_response(read_to_end(visitor)).body == b"%d" % len(REST)
