"""curl in front of the HTTP edge, nginx behind it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ClientProcess, ServerProcess
from harness.beside import Nginx, curl

pytestmark = pytest.mark.slow

FILES = 40
MOVED = "location = /moved { absolute_redirect off; return 302 /whole.bin; }"
"""nginx would name the port on which it listens itself."""

BODY = random.Random(7).randbytes(3 << 20)
"""More than the 1 MB from which on curl asks with Expect: 100-continue before it sends a body."""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), MOVED) as running:
        (running.root / "whole.bin").write_bytes(BODY)
        for number in range(FILES):
            (running.root / f"{number}.bin").write_bytes(BODY[number : 1000 * number])
        yield running


@pytest.fixture(scope="module")
def url(nginx: Nginx) -> Iterator[str]:
    with ServerProcess() as server, ClientProcess(nginx.port, server=server.frontend, name="demo") as client:
        yield client.wait_until_open()


def fetched(*arguments: str) -> bytes:
    """Return what curl wrote; it must have succeeded."""
    done = curl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--header", "Transfer-Encoding: chunked"],
        ["--header", "Expect:"],
        ["--header", "Expect: 100-continue", "--expect100-timeout", "60"],
        ["--header", "Transfer-Encoding: chunked", "--header", "Expect: 100-continue", "--expect100-timeout", "60"],
        ["--http1.0"],
        ["--header", "Connection: close"],
        ["--limit-rate", "6M"],
    ],
    ids=" ".join,
)
def test_upload(url: str, nginx: Nginx, tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "body.bin"
    source.write_bytes(BODY)

    status = fetched(*options, "--upload-file", str(source), "--write-out", "%{http_code}", f"{url}/upload/")

    stored = nginx.root / "upload" / "body.bin"
    assert status == b"201"
    assert stored.read_bytes() == BODY
    stored.unlink()


def test_upload_waits_for_100_continue(url: str, tmp_path: Path) -> None:
    """The interim response comes from nginx, through the edge, before the body is sent."""
    source = tmp_path / "interim.bin"
    source.write_bytes(BODY)

    heads = fetched("--include", "--expect100-timeout", "60", "--upload-file", str(source), f"{url}/upload/")

    assert heads.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n")


@pytest.mark.parametrize("options", [["--http1.0"], ["--http1.1"], ["--http2"]], ids=" ".join)
def test_download(url: str, options: list[str]) -> None:
    """Who asks for a change to HTTP/2 is answered in HTTP/1.1."""
    assert fetched(*options, f"{url}/whole.bin") == BODY


def test_download_that_goes_on_where_it_was_cut(url: str, tmp_path: Path) -> None:
    received = tmp_path / "received.bin"
    received.write_bytes(BODY[:12345])

    fetched("--continue-at", "-", "--output", str(received), f"{url}/whole.bin")

    assert received.read_bytes() == BODY


def test_redirect_is_followed(url: str) -> None:
    assert fetched("--location", f"{url}/moved") == BODY


def test_parallel_downloads_are_not_mixed_up(url: str, tmp_path: Path) -> None:
    fetched(
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        str(FILES),
        *("--output", str(tmp_path / "#1.bin")),
        f"{url}/[0-{FILES - 1}].bin",
    )

    for number in range(FILES):
        assert (tmp_path / f"{number}.bin").read_bytes() == BODY[number : 1000 * number], f"file {number}"


def test_one_connection_for_everything(url: str, nginx: Nginx, tmp_path: Path) -> None:
    """Downloads, uploads and a HEAD; curl would open a second connection if the first were closed."""
    source = tmp_path / "kept.bin"
    source.write_bytes(BODY)
    write = "--write-out", "%{num_connects} %{http_code}\n", "--output", "/dev/null", "--no-progress-meter"
    step = "--next", *write

    lines = fetched(
        *write,
        f"{url}/1.bin",
        *(*step, "--upload-file", str(source), f"{url}/upload/"),
        *(*step, "--head", f"{url}/2.bin"),
        *(*step, f"{url}/missing"),
        *(*step, "--data", "a=b", f"{url}/3.bin"),
        *(*step, f"{url}/4.bin"),
    )

    assert lines.split(b"\n") == [b"1 200", b"0 201", b"0 200", b"0 404", b"0 405", b"0 200", b""]
