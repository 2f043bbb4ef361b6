"""Visitors who break off: their tunnel's client and its upstream must not go on working for nobody."""

import contextlib
import struct
from functools import partial

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult, Event
from harness import (
    CAP,
    LOOPBACK,
    ClientProcess,
    ServerProcess,
    connect,
    frontend,
    is_reset,
    read_exactly,
    read_head,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)

VISITORS = 20
"""Visitors who break off at the same time: what each finds the pump doing is chance."""

RESET = struct.pack("ii", 1, 0)
PIECE = b"z" * 100_000


@pytest.mark.parametrize("keep_reading", [True, False])
def test_upstream_of_an_endless_response_learns_that_the_visitor_has_gone(keep_reading: bool) -> None:
    """A visitor who does not read makes every buffer on the way fill up before it breaks off."""
    ends: list[AsyncResult] = []

    def answer(sock: socket.socket) -> None:
        ended = AsyncResult()
        ends.append(ended)
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        try:
            while True:
                sock.sendall(PIECE)
        except OSError as error:
            ended.set(not isinstance(error, TimeoutError))

    with (
        running_upstream(answer) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        visitors = [connect(server.frontend) for _ in range(VISITORS)]
        for visitor in visitors:
            visitor.sendall(request("demo.localhost"))
        for visitor in visitors:
            read_exactly(visitor, 10 * len(PIECE) if keep_reading else 1)
        for visitor in visitors:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            visitor.close()

        gevent.wait(ends, timeout=CAP)
        assert [ended.ready() and ended.get() for ended in ends] == [True] * VISITORS
        wait_until(lambda: server.metrics()["joins"] == 0, what="no join left")


def test_visitor_learns_that_the_upstream_has_broken_off() -> None:
    """An RST stays one: a visitor must not take a truncated response for a whole one."""

    def answer(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PIECE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    with (
        running_upstream(answer) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost"))
            assert is_reset(visitor)


VISITORS_GONE = 10
NEVER = 60.0
SOON = 0.4
UPGRADE = request("demo.localhost", fields="Connection: Upgrade\r\nUpgrade: websocket\r\n")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(("server_cuts", "client_cuts"), [(SOON, NEVER), (NEVER, SOON)], ids=["server", "client"])
@pytest.mark.parametrize("what", ["a TCP tunnel", "a WebSocket", "join mode"])
def test_visitors_who_have_gone_do_not_stay_although_the_upstream_never_ends(
    what: str, server_cuts: float, client_cuts: float
) -> None:
    """Whichever of the two programs is the less patient cuts, and the other one is told."""
    over = Event()

    def listen_for_ever(sock: socket.socket) -> None:
        sock.sendall(b"hello" if what == "a TCP tunnel" else SWITCHING)
        while sock.recv(65536):
            pass
        over.wait()

    port = unused_port()
    settings = {"tcp_ports": f"{port}-{port}", "edge": "join" if what == "join mode" else "http"}
    kind = "tcp" if what == "a TCP tunnel" else "http"
    with (
        running_upstream(listen_for_ever) as target,
        running_server(**settings, timeouts={"half_closed": server_cuts}) as server,
        running_client(
            frontend(server), target, name="demo", kind=kind, timeouts={"half_closed": client_cuts}
        ) as client,
    ):
        for _ in range(VISITORS_GONE):
            with connect((LOOPBACK, port) if kind == "tcp" else frontend(server)) as visitor:
                if kind == "http":
                    visitor.sendall(UPGRADE)
                assert visitor.recv(1)
        wait_until(lambda: not server.joins, what="the server forgets them")
        wait_until(lambda: not client.client.visitors, what="the client forgets them")
        over.set()


POOL = 4
DEAF = 3 * POOL
"""Visitors who do not read: more than all the connections that the client may keep parked."""

LARGE = bytes(4_500_000)
"""What the kernels between the upstream and such a visitor hold, so that only the server has to wait for him."""


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_visitors_who_do_not_read_leave_a_connection_for_others(kind: str) -> None:
    """Where the server does not know the end of an answer, it stops reading the connection that the answer is on."""
    sent = 0

    def answer(sock: socket.socket) -> None:
        nonlocal sent
        is_large = b"/large" in read_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + (LARGE if is_large else b"hello"))
        sent += is_large

    port = unused_port()
    with (
        contextlib.ExitStack() as deaf,
        running_server(edge="join", tcp_ports=f"{port}-{port}", limits={"tunnel_concurrency": POOL}) as server,
        running_upstream(answer) as target,
        running_client(frontend(server), target, name="demo", kind=kind) as client,
    ):
        address = (LOOPBACK, port) if kind == "tcp" else frontend(server)

        def ask() -> None:
            with connect(address) as visitor:
                visitor.sendall(request("demo.localhost"))
                assert read_to_end(visitor).endswith(b"hello")

        def is_only_at_the_server(count: int) -> bool:
            return sent == count and not client.client.visitors

        # The client learns that connections come back, and no longer dials at once.
        for _ in range(12):
            ask()
        for count in range(1, DEAF + 1):
            visitor = deaf.enter_context(socket.socket())
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            visitor.connect(address)
            visitor.sendall(request("demo.localhost", "/large"))
            visitor.shutdown(socket.SHUT_WR)
            wait_until(partial(is_only_at_the_server, count), what="only the server waits")
        ask()


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("what", ["a TCP tunnel", "a WebSocket"])
def test_a_visitor_who_only_listens_is_served_for_as_long_as_something_comes(what: str) -> None:
    said = b"event" * 8

    def tell(sock: socket.socket) -> None:
        sock.sendall(b"" if what == "a TCP tunnel" else SWITCHING)
        while sock.recv(65536):
            pass
        for start in range(0, len(said), 5):
            # The pauses are what is tested: shorter than the patience, all together longer.
            gevent.sleep(SOON / 3)
            sock.sendall(said[start : start + 5])

    port = unused_port()
    kind = "tcp" if what == "a TCP tunnel" else "http"
    impatient = {"half_closed": SOON}
    with (
        running_upstream(tell) as target,
        running_server(tcp_ports=f"{port}-{port}", timeouts=impatient) as server,
        running_client(frontend(server), target, name="demo", kind=kind, timeouts=impatient),
        connect((LOOPBACK, port) if kind == "tcp" else frontend(server)) as visitor,
    ):
        if kind == "http":
            visitor.sendall(UPGRADE)
            read_head(visitor)
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor) == said
