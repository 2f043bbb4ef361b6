"""An upstream that sends each answer in two pieces, with Nagle's algorithm: Python's http.server, by both commands."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LOOPBACK, ClientProcess, ServerProcess, connect, request, unused_port, wait_until
from harness.beside import environment
from harness.exchanges import Stream
from harness.sockets import Address

REQUESTS = 20

HELD_BACK = 0.035
"""Seconds: the kernel of a reader acknowledges after 40 ms, and the second piece waits for that."""


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "small.txt").write_text("small")
    port = unused_port()
    command = [sys.executable, "-m", "http.server", "--protocol=HTTP/1.1", f"--bind={LOOPBACK}", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers((LOOPBACK, port)), what="http.server")
        yield port
    finally:
        process.kill()
        process.wait()


def answers(address: Address) -> bool:
    try:
        with connect(address):
            return True
    except OSError:
        return False


def held_back(address: Address) -> int:
    """Return how many of several requests on one connection had to wait for an acknowledgement."""
    count = 0
    with connect(address) as sock:
        visitor = Stream(sock)
        for _ in range(REQUESTS):
            since = time.monotonic()
            visitor.send(request("demo.localhost", "/small.txt"))
            assert visitor.message().body == b"small"
            count += time.monotonic() - since >= HELD_BACK
    return count


@pytest.mark.alone
def test_no_visitor_waits_for_an_acknowledgement(upstream: int) -> None:
    """Asked directly, it lets a visitor wait as often as not."""
    with (
        ServerProcess() as server,
        ClientProcess(upstream, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        direct, through = held_back((LOOPBACK, upstream)), held_back(server.frontend)
    assert direct > REQUESTS // 4
    assert through < direct / 3
