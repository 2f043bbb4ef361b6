"""Descriptors run out: what is joined goes on, what is new waits, the log stays small, and it all recovers."""

import resource
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import gevent
import pytest
from gevent import socket
from harness import (
    LOOPBACK,
    Address,
    ClientProcess,
    Program,
    ServerProcess,
    connect,
    fetch,
    read_exactly,
    read_head,
    read_message,
    request,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.v3 import Peer, got, ready

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

BUSY = request("demo.localhost", "/hold")
"""What a visitor asks that is not idle, and so does not give way."""

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

        with flood(getattr(server, where), BUSY if where == "frontend" else b""):
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

        with flood(server.frontend, BUSY) as connections:
            wait_until(lambda: server.descriptors() >= ceiling, what="the last descriptor to be used")
            until = time.monotonic() + EXHAUSTED_FOR
            while time.monotonic() < until:
                connections.pop(0).close()
                connections.append(connect(server.frontend))
                connections[-1].sendall(BUSY)
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


# The limit, and whom its descriptors are for.

FEW = (256, 1024)
"""The soft limit and the hard one that a server or a client is started with."""

IDLE = 1020
"""Visitors that keep their connections: as many as all descriptors but a handful."""


@pytest.fixture
def many() -> Iterator[None]:
    """Let this process hold both ends of what the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4 * IDLE:
        pytest.skip(f"this process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * IDLE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_both_programs_take_as_many_descriptors_as_they_may_have() -> None:
    with (
        running_upstream(echo_or_hold) as port,
        ServerProcess(nofile=FEW) as server,
        ClientProcess(port, "--log-level=debug", server=server.frontend, name="demo", nofile=FEW) as client,
    ):
        record = server.wait_for_record("descriptors")
        assert (record["before"], record["limit"]) == FEW
        client.wait_until_open()
        assert "descriptors limit=1024 before=256" in client.stderr
        for program in (server, client):
            assert resource.prlimit(program.pid, resource.RLIMIT_NOFILE) == (1024, 1024)


def keep_idle(server: ServerProcess, sockets: list[socket.socket], host: str = "demo.localhost") -> None:
    """Have one request answered on each of ``sockets``, which stay."""
    for sock in sockets:
        sock.sendall(request(host, "/kept"))
    for sock in sockets:
        assert read_head(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
@pytest.mark.usefixtures("many")
def test_idle_visitors_lock_nobody_out() -> None:
    """Those who keep a connection open give it up for visitors to come and for clients."""
    with ExitStack() as stack:
        port = stack.enter_context(running_upstream(answer_kept))
        server = stack.enter_context(ServerProcess(nofile=FEW))
        first = stack.enter_context(ClientProcess(port, server=server.frontend, name="demo"))
        first.wait_until_open()
        for _ in range(IDLE // 20):
            keep_idle(server, [stack.enter_context(connect(server.frontend)) for _ in range(20)])
        assert server.descriptors() < FEW[1]
        second = stack.enter_context(ClientProcess(port, server=server.frontend, name="second"))
        second.wait_until_open()
        for name in ("demo", "second"):
            asked = request(f"{name}.localhost", "/kept", fields="Connection: close\r\n")
            assert fetch(server.frontend, asked).status == 200
        assert "cannot accept, pausing" not in [record["event"] for record in server.records]


@pytest.mark.slow
@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_visitors_who_wait_leave_the_client_its_connections(kind: str) -> None:
    """They hold a descriptor each until the client's connections come, for which there has to be one."""
    ports = "--tcp-ports={0}-{0}".format(unused_port())
    with ExitStack() as stack:
        config = "[timeouts]\npool_wait = 60.0\n[limits]\nwaiting_visitors = 2000\n"
        server = stack.enter_context(ServerProcess(ports, config=config, nofile=FEW))
        peer = stack.enter_context(Peer(server.backend, kind=kind))
        where = server.frontend if kind == "http" else (LOOPBACK, int(ports[-5:].lstrip("=-")))
        for _ in range(FEW[1]):
            with suppress(OSError):
                visitor = stack.enter_context(connect(where))
                visitor.sendall(request("demo.localhost") * (kind == "http"))
        wait_until(lambda: server.descriptors() >= FEW[1] * 3 // 4, what="as many visitors as may wait")
        for _ in range(FEW[1] // 8):
            with peer.park() as proxy:
                number = read_message(proxy)["proxy"]["id"]
                proxy.sendall(got(number) + ready(number))
        assert "cannot accept, pausing" not in [record["event"] for record in server.records]


def answer_kept(sock: socket.socket) -> None:
    """Answer request after request."""
    while read_head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
