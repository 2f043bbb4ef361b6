"""Descriptors run out: what is joined goes on, what is new waits, the log stays small, and it all recovers."""

import resource
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from gevent import socket
from harness import (
    Address,
    ClientProcess,
    Program,
    ServerProcess,
    connect,
    fetch,
    read_exactly,
    read_head,
    request,
    running_upstream,
    wait_until,
)

SPARE = 30
"""Descriptors that the program may still open."""

FLOOD = 200
"""Connections that come although no descriptor is left for most of them."""

EXHAUSTED_FOR = 3.0
"""Seconds for which the shortage lasts: some hundred times what a loop that spins needs for a log line."""

MAX_RECORDS = 10
"""Lines that the shortage may be worth in that time."""

RESET = struct.pack("ii", 1, 0)
PIECE = b"e" * 64 * 1024

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

SETTINGS = "[timeouts]\nhead = 60.0\npool_wait = 60.0\n"


def echo_or_hold(sock: socket.socket) -> None:
    """For ``/echo`` upgrade, and send back what comes; for ``/hold`` say nothing until the visitor has gone."""
    head, _, data = read_head(sock).partition(b"\r\n\r\n")
    if b" /echo " in head:
        sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}\r\n".encode() + data)
        while data := sock.recv(len(PIECE)):
            sock.sendall(data)
    elif b" /hold " in head:
        sock.settimeout(None)
        sock.recv(1)
    else:
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok")


def exchange(visitor: socket.socket) -> None:
    """Send a piece and receive it."""
    sending = gevent.spawn(visitor.sendall, PIECE)
    assert read_exactly(visitor, len(PIECE)) == PIECE
    sending.get()


def limit(program: Program, spare: int) -> int:
    """Let ``program`` open ``spare`` descriptors more and no others, as prlimit(1) does. Returns its highest number."""
    count = program.descriptors() + spare
    _, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (count, hard))
    return count


@contextmanager
def flood(address: Address, data: bytes) -> Iterator[list[socket.socket]]:
    """Hold ``FLOOD`` connections open, each of which has sent ``data``; in the end they are reset.

    A visitor that only ends its side may still wait for its answer, and in LTP/0.2 is not given up so soon.
    """
    connections = [connect(address) for _ in range(FLOOD)]
    try:
        for sock in connections:
            sock.sendall(data)
        yield connections
    finally:
        for sock in connections:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()


@contextmanager
def joined_tunnel() -> Iterator[tuple[ServerProcess, ClientProcess, socket.socket]]:
    """Yield a server, a client, and a visitor that is joined to an upstream that echoes."""
    with (
        running_upstream(echo_or_hold) as port,
        ServerProcess(config=SETTINGS) as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost", "/echo", fields=UPGRADE))
            assert read_head(visitor).startswith(b"HTTP/1.1 101 ")
            exchange(visitor)
            yield server, client, visitor


@pytest.mark.slow
@pytest.mark.parametrize("where", ["frontend", "backend"])
def test_server_without_descriptors(where: str) -> None:
    with joined_tunnel() as (server, client, visitor):
        ceiling = limit(server, SPARE)
        records = len(server.records)

        with flood(getattr(server, where), b""):
            wait_until(lambda: server.descriptors() >= ceiling, what="the last descriptor to be used")
            until = time.monotonic() + EXHAUSTED_FOR
            while time.monotonic() < until:
                exchange(visitor)
            assert len(server.records) - records <= MAX_RECORDS

        assert fetch(server.frontend, request("demo.localhost")).body == b"ok"
        exchange(visitor)
        assert server.metrics()["tunnels"] == 1
        assert "tunnel_lost" not in [event["event"] for event in client.events]


@pytest.mark.slow
def test_log_stays_small_while_visitors_come_and_go_at_the_limit() -> None:
    """Each one that leaves lets one in, after which there is no descriptor again."""
    with joined_tunnel() as (server, _, visitor):
        ceiling = limit(server, SPARE)
        records = len(server.records)

        with flood(server.frontend, b"") as connections:
            wait_until(lambda: server.descriptors() >= ceiling, what="the last descriptor to be used")
            until = time.monotonic() + EXHAUSTED_FOR
            while time.monotonic() < until:
                connections.pop(0).close()
                connections.append(connect(server.frontend))
                exchange(visitor)
            assert len(server.records) - records <= MAX_RECORDS


@pytest.mark.slow
def test_client_without_descriptors() -> None:
    """Visitors hold all that the client may open; it can neither dial its upstream nor refill its pool."""
    with joined_tunnel() as (server, client, visitor):
        ceiling = limit(client, SPARE)

        with flood(server.frontend, request("demo.localhost", "/hold")):
            wait_until(lambda: client.descriptors() >= ceiling, what="the last descriptor to be used")
            until = time.monotonic() + EXHAUSTED_FOR
            while time.monotonic() < until:
                exchange(visitor)
            assert len(client.stderr.splitlines()) <= MAX_RECORDS

        wait_until(lambda: fetch(server.frontend, request("demo.localhost")).status == 200, what="an answer again")
        exchange(visitor)
        assert "tunnel_lost" not in [event["event"] for event in client.events]
        assert client.process.poll() is None
