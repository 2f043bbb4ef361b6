"""Many more visitors than connections: the same few between client and server carry them all."""

import os
from pathlib import Path

import gevent
import pytest
from gevent import socket
from harness import (
    ClientProcess,
    at_most,
    connect,
    frontend,
    nothing_left_over,
    read_head,
    read_to_end,
    request,
    running_server,
    running_upstream,
)

from localtunnel import Server

pytestmark = [pytest.mark.slow, pytest.mark.alone]

VISITORS = 20_000
"""A hundred thousand took two minutes on two busy cores."""

AT_ONCE = 8
"""Visitors at a time, and the connections that the client keeps."""

FEW = 100
"""Connections that a client may make for all of them: without recycling it makes one for each."""

LITTLE = 1024 * 1024
"""Bytes that the second half may add to a process: 100 for each visitor would be as much."""

ANSWER = b"HTTP/1.0 200 OK\r\n\r\nhello"


def answer(sock: socket.socket) -> None:
    """Answer a request, and close."""
    if read_head(sock):
        sock.sendall(ANSWER)


def memory(process: int | str) -> int:
    """Return how many bytes a process has in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(process: int | str) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def handshakes(server: Server) -> int:
    """Return how many connections over TLS the server has taken, as OpenSSL counts them."""
    return server._certificate.context.session_stats()["accept"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("edge", ["join", "http"])
def test_twenty_thousand_visitors_share_eight_connections(edge: str) -> None:
    with (
        nothing_left_over(),
        running_server(edge=edge, limits={"tunnel_concurrency": AT_ONCE}) as server,
        running_upstream(answer) as port,
        ClientProcess(port, server=frontend(server), name="demo") as client,
    ):
        client.wait_until_open()
        asked = request("demo.localhost", fields="Connection: close\r\n")

        def visit(count: int) -> None:
            for _ in range(count):
                with connect(frontend(server)) as sock:
                    sock.sendall(asked)
                    assert read_to_end(sock).endswith(b"hello")

        def visit_by_half() -> tuple[list[int], list[int]]:
            visitors = [gevent.spawn(visit, VISITORS // 2 // AT_ONCE) for _ in range(AT_ONCE)]
            gevent.joinall(visitors, raise_error=True)
            processes = ("self", client.pid)
            return [memory(process) for process in processes], [descriptors(process) for process in processes]

        with at_most(120.0, "all visits"):
            half, whole = visit_by_half(), visit_by_half()
        assert handshakes(server) < FEW
        for before, after in zip(half[0], whole[0], strict=True):
            assert after - before < LITTLE
        for before, after in zip(half[1], whole[1], strict=True):
            assert after - before < AT_ONCE


CROWD = 64
"""Visitors at a time, far more than the connections that are kept for them."""


def test_a_crowd_shares_eight_connections_too() -> None:
    """Whoever finds none parked waits for one that is about to come back: a dial for it would take longer."""
    count = 0

    def visit_often(server: Server) -> None:
        nonlocal count
        while count < 16 * CROWD:
            count += 1
            with connect(frontend(server)) as sock:
                sock.sendall(request("demo.localhost", method="POST", fields="Connection: close\r\n", body=b"x"))
                assert read_to_end(sock).endswith(b"hello")

    with (
        running_server(limits={"tunnel_concurrency": AT_ONCE}) as server,
        running_upstream(answer) as port,
        ClientProcess(port, server=frontend(server), name="demo") as client,
    ):
        client.wait_until_open()
        visitors = [gevent.spawn(visit_often, server) for _ in range(CROWD)]
        gevent.joinall(visitors, raise_error=True)
        # A client that dials as soon as it has none parked makes one for every second visitor.
        assert handshakes(server) < count / 4
