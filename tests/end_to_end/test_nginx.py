"""The main job: nginx behind lt-client, curl and other visitors in front of lt-server."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from harness import (
    ClientProcess,
    ServerProcess,
    connect,
    parse_response,
    read_head,
    read_to_end,
    request,
    running_upstream,
)
from harness.beside import Nginx, curl

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
LARGE = 100 * MEGABYTE

VISITORS = 200
POOLS = {
    "0.2": 'legacy = "only"\npool_size = 8\n',
    "0.3": "legacy = false\n[limits]\ntunnel_concurrency = 8\n",
}
"""A pool of 8 connections, as large as the server may make it."""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a file of 100 MB that no compression or repetition could hide an error in, and its SHA-256."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    generator = random.Random(2)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(LARGE // MEGABYTE):
            piece = generator.randbytes(MEGABYTE)
            digest.update(piece)
            file.write(piece)
    return path, digest.hexdigest()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx")) as running:
        (running.root / "index.html").write_text("<h1>It works through a tunnel</h1>\n")
        yield running


@pytest.fixture(scope="module")
def url(nginx: Nginx) -> Iterator[str]:
    with ServerProcess() as server, ClientProcess(nginx.port, server=server.frontend, name="demo") as client:
        yield client.wait_until_open()


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(MEGABYTE):
            digest.update(piece)
    return digest.hexdigest()


def test_page_is_served_at_the_url_that_the_client_reports(url: str) -> None:
    page = curl(url, "--include")

    assert page.returncode == 0, page.stderr
    assert page.stdout.startswith(b"HTTP/1.1 200 OK\r\nServer: nginx")
    assert page.stdout.endswith(b"\r\n\r\n<h1>It works through a tunnel</h1>\n")


def test_download_of_100_mb_is_whole(url: str, nginx: Nginx, large_file: tuple[Path, str], tmp_path: Path) -> None:
    source, digest = large_file
    (nginx.root / "large.bin").symlink_to(source)
    received = tmp_path / "received.bin"

    done = curl(f"{url}/large.bin", "--output", str(received))

    assert done.returncode == 0, done.stderr
    assert received.stat().st_size == LARGE
    assert sha256(received) == digest


def test_upload_of_100_mb_is_whole(url: str, nginx: Nginx, large_file: tuple[Path, str]) -> None:
    source, digest = large_file

    done = curl(f"{url}/upload/large.bin", "--upload-file", str(source), "--write-out", "%{http_code}")

    assert done.returncode == 0, done.stderr
    assert done.stdout == b"201"
    assert sha256(nginx.root / "upload" / "large.bin") == digest


def test_requests_on_one_connection_are_all_answered(url: str) -> None:
    discarded = ["--output", "/dev/null"] * 2

    both = curl(url, url, *discarded, "--write-out", "%{num_connects} %{http_code}\n")

    assert both.stdout == b"1 200\n0 200\n"


@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
def test_200_visitors_at_once_pass_a_pool_of_8(settings: str) -> None:
    """None is answered before all of them have reached the upstream, so that all 200 are joined at the same time."""
    arrived = 0
    all_arrived = Event()

    def answer(sock: socket.socket) -> None:
        nonlocal arrived
        read_head(sock)
        arrived += 1
        if arrived == VISITORS:
            all_arrived.set()
        all_arrived.wait()
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthere were %d" % arrived)

    with (
        running_upstream(answer) as port,
        ServerProcess(config=f"{settings}\n[timeouts]\npool_wait = 30.0\n") as server,
        ClientProcess(port, "--legacy", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        visitors = [connect(server.frontend, cap=30) for _ in range(VISITORS)]
        try:
            for visitor in visitors:
                visitor.sendall(request("demo.localhost"))
            answers = [gevent.spawn(read_to_end, visitor) for visitor in visitors]
            gevent.joinall(answers, raise_error=True)
        finally:
            for visitor in visitors:
                visitor.close()

        responses = [parse_response(answer.value) for answer in answers]
        assert [(response.status, response.body) for response in responses] == [(200, b"there were 200")] * VISITORS
