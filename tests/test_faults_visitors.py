"""Visitors who break off: their tunnel's client and its upstream must not go on working for nobody."""

import struct

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult
from harness import (
    CAP,
    ClientProcess,
    ServerProcess,
    connect,
    is_reset,
    read_exactly,
    read_head,
    request,
    running_upstream,
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
