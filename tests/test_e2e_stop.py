"""How the server stops while visitors are there: it lets them finish, for a while, or not when it is told twice."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gevent import socket
from gevent.event import Event
from harness import (
    CAP,
    ClientProcess,
    ServerProcess,
    connect,
    is_reset,
    read_exactly,
    read_head,
    read_to_end,
    request,
    running_upstream,
    wait_until,
)

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
FIRST, REST = b"x" * 100_000, b"y" * 5_000_000

LONG = 60
"""A grace, in seconds, that no test waits for."""


class Download:
    """A response of which the first part is sent at once, and the rest when ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = Event()

    def __call__(self, sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(HEAD + FIRST)
        self.go_on.wait()
        sock.sendall(REST)


@contextmanager
def running_download(grace: float) -> Iterator[tuple[ServerProcess, socket.socket, Download]]:
    """Yield a server, a visitor that has received the first part, and the means to let it have the rest."""
    download = Download()
    with (
        running_upstream(download) as port,
        ServerProcess(f"--grace={grace}") as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost"))
            assert read_exactly(visitor, len(HEAD + FIRST)) == HEAD + FIRST
            yield server, visitor, download


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_running_download_finishes_within_the_grace(number: int, code: int) -> None:
    with running_download(LONG) as (server, visitor, download):
        server.signal(number)
        server.wait_for_record("stopping")
        with pytest.raises(ConnectionRefusedError):
            connect(server.frontend)
        assert server.process.poll() is None

        download.go_on.set()

        assert read_to_end(visitor) == REST
        visitor.close()
        assert server.wait() == code


def test_grace_ends() -> None:
    with running_download(0.5) as (server, visitor, _):
        begun = time.monotonic()
        server.signal(signal.SIGTERM)

        assert is_reset(visitor)
        assert server.wait() == 0
        assert 0.5 <= time.monotonic() - begun < CAP


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_the_grace_at_once(second: int) -> None:
    with running_download(LONG) as (server, visitor, _):
        server.signal(signal.SIGTERM)
        server.wait_for_record("stopping")
        server.signal(second)

        assert is_reset(visitor)
        assert server.wait(cap=5) == 0


def test_client_that_is_stopped_ends_its_visitors() -> None:
    """Whoever downloads must see a failure, never a short file."""
    download = Download()
    with (
        running_upstream(download) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost"))
            read_exactly(visitor, len(HEAD + FIRST))
            assert client.stop() == 0

            assert is_reset(visitor)
        wait_until(lambda: server.metrics()["joins"] == 0, what="no join left")
