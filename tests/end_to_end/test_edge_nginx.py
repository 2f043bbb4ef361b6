"""The same requests to nginx directly and through the tunnel: the answers must be the same, in the same order.

Python's http.client reads them, on one connection for all requests where that is the mode, and knows nothing of either
program. What differs by intent is left out of the comparison: Date, and the Connection field, whose effect is compared.
"""

import gzip
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import gevent
import msgspec
import pytest
from gevent import socket
from harness import CAP, Address, ClientProcess, ServerProcess, connect
from harness.beside import Nginx
from harness.http_visitor import Answer, Request, Shared, read_answer

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
LENGTHS = (0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 64 * 1024, MEGABYTE, 10 * MEGABYTE)
"""Around what travels with an assignment (16 KiB), what one read takes, and what needs many."""

LOCATIONS = """
        location /chunked/ { alias ROOT/; sub_filter_types *; sub_filter "not in any file" ""; }
        location /gzip/ {
            alias ROOT/; gzip on; gzip_types *; gzip_min_length 0; gzip_comp_level 1; gzip_http_version 1.0;
        }
        location /small/ { client_max_body_size 1k; }
        location = /moved { return 301 /0.bin; }
        location = /relative { absolute_redirect off; return 302 /1.bin; }
        location = /elsewhere { return 307 https://www.example.org/; }
        location = /nothing { return 204; }
        location = /teapot { add_header X-Odd "a, b; c=\\"d\\"" always; return 418 "short and stout"; }
"""

IGNORED = {"date", "connection"}
WRITTEN = {"last-modified", "etag"}
"""What an uploaded file has from the moment of its writing."""

BOUNDARY = re.compile(rb"\b\d{20}\b")
"""What nginx puts between the parts of several ranges: a counter."""

RANGES = {"0-0": 206, "100-70000": 206, "-1": 206, "0-9,20-29": 206, "99999-": 416, "x": 416}

MODES = ["keep-alive", "close", "HTTP/1.0", "HTTP/1.0 keep-alive", "pipelined"]


def ask(address: Address, host: str, requests: list[Request], mode: str) -> list[Answer]:
    """Send ``requests`` in ``mode`` and return the answers; whatever else is received fails the test."""
    answers: list[Answer] = []
    left = list(requests)
    while left:
        with connect(address, cap=30.0) as sock:
            stream = Shared(sock.makefile("rb", buffering=0))
            if mode == "pipelined":
                everything = b"".join(request.bytes(host, mode) for request in left)
                sending = gevent.spawn(sock.sendall, everything)
            is_open = True
            while left and is_open:
                request = left.pop(0)
                if mode != "pipelined":
                    sending = gevent.spawn(sock.sendall, request.bytes(host, mode))
                answers.append(read_answer(stream, request.method))
                is_open = answers[-1].stays_open
            sending.get(timeout=CAP)
            if is_open:
                sock.shutdown(socket.SHUT_WR)
            assert stream.read() == b""
    return answers


class Places(msgspec.Struct):
    """Where the same nginx can be asked, and the host to ask for in both places."""

    direct: Address
    tunnel: Address
    host: str
    root: Path


@cache
def content(length: int) -> bytes:
    """Return ``length`` bytes that no repetition could hide an error in, half of them compressible."""
    return random.Random(length).randbytes(-(-length // 2)).hex().encode()[:length]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    running = Nginx(directory, LOCATIONS.replace("ROOT", str(directory / "www")))
    for length in LENGTHS:
        (running.root / f"{length}.bin").write_bytes(content(length))
    (running.root / "folder").mkdir()
    with running:
        yield running


@contextmanager
def exposed(nginx: Nginx, protocol: str) -> Iterator[Places]:
    """Expose ``nginx`` through a server that speaks one version of LTP."""
    with (
        ServerProcess(config='legacy = "only"\n' if protocol == "0.2" else "legacy = false\n") as server,
        ClientProcess(nginx.port, "--legacy", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        yield Places(("127.0.0.1", nginx.port), server.frontend, f"demo.localhost:{server.frontend[1]}", nginx.root)


@pytest.fixture(scope="module")
def places(nginx: Nginx) -> Iterator[Places]:
    with exposed(nginx, "0.3") as found:
        yield found


def comparable(answer: Answer) -> Answer:
    """Return ``answer`` without what differs from one time to the next."""
    fields = answer.fields
    if answer.status == 206:
        fields = [(name, BOUNDARY.sub(b"", value.encode()).decode()) for name, value in fields]
        answer.body = BOUNDARY.sub(b"", answer.body)
    if ("Content-Type", "text/plain") in fields:
        fields = [(name, value) for name, value in fields if name.lower() not in WRITTEN]
    fields = [(name, value) for name, value in fields if name.lower() not in IGNORED]
    return msgspec.structs.replace(answer, fields=fields)


def same_answers(places: Places, requests: list[Request], mode: str) -> list[Answer]:
    """Return the answers, which must be the same in both places."""
    direct = [comparable(answer) for answer in ask(places.direct, places.host, requests, mode)]
    tunnel = [comparable(answer) for answer in ask(places.tunnel, places.host, requests, mode)]
    assert len(direct) == len(tunnel) == len(requests)
    for request, expected, answer in zip(requests, direct, tunnel, strict=True):
        about = f"{request.method} {request.target}"
        for part in ("status", "reason", "fields", "chunked"):
            assert (about, part, getattr(answer, part)) == (about, part, getattr(expected, part))
        is_same = answer.body == expected.body
        assert is_same, f"{about}: another body"
        # The connection to the visitor may stay where the one to nginx does not: it is another hop.
        assert answer.stays_open or not expected.stays_open, about
        assert not (answer.stays_open and mode in ("close", "HTTP/1.0")), about
    return tunnel


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("coding", ["", "/chunked", "/gzip"], ids=["counted", "chunked", "gzip"])
def test_downloads(places: Places, coding: str, mode: str) -> None:
    fields = {"Accept-Encoding": "gzip"} if coding == "/gzip" else {}
    requests = [
        Request(method, f"{coding}/{length}.bin", fields) for length in LENGTHS for method in ("GET", "HEAD", "GET")
    ]

    answers = same_answers(places, requests, mode)

    for request, answer in zip(requests, answers, strict=True):
        whole = (places.root / request.target.rpartition("/")[2]).read_bytes()
        body = gzip.decompress(answer.body) if coding == "/gzip" and answer.body else answer.body
        is_whole = body == (b"" if request.method == "HEAD" else whole)
        assert is_whole, f"{request.method} {request.target}: another body"


@pytest.mark.parametrize(
    ("chunks", "mode"),
    [
        (chunks, mode)
        for chunks in (0, 1000, MEGABYTE)
        for mode in MODES
        if not (chunks and mode.startswith("HTTP/1.0"))
    ],
)
def test_uploads(places: Places, chunks: int, mode: str) -> None:
    """Counted, and in small and large chunks, which HTTP/1.0 does not have."""
    requests = []
    for length in LENGTHS:
        target = f"/upload/{length}.bin"
        requests += [
            Request("GET", target),
            Request("PUT", target, body=content(length), chunks=chunks),
            Request("GET", target),
            Request("PUT", target, {"Content-Type": "text/plain"}, content(length), chunks),
            Request("DELETE", target),
        ]

    answers = same_answers(places, requests, mode)

    assert [answer.status for answer in answers] == [404, 201, 200, 204, 204] * len(LENGTHS)
    for length, answer in zip(LENGTHS, answers[2::5], strict=True):
        is_whole = answer.body == content(length)
        assert is_whole, f"{length} bytes: another body"


@pytest.mark.parametrize("mode", MODES)
def test_everything_else(places: Places, mode: str) -> None:
    """Ranges, conditions, redirects, other methods and refusals, mixed on one connection."""
    file = f"/{64 * 1024}.bin"
    plain = ask(places.direct, places.host, [Request("GET", file)], "close")[0]
    validators = {name.lower(): value for name, value in plain.fields}
    tag, modified = validators["etag"], validators["last-modified"]
    expected = [
        *((Request("GET", file, {"Range": f"bytes={wanted}"}), status) for wanted, status in RANGES.items()),
        (Request("GET", file, {"Range": "bytes=5-9", "If-Range": tag}), 206),
        (Request("GET", file, {"Range": "bytes=5-9", "If-Range": '"other"'}), 200),
        (Request("GET", file, {"If-None-Match": tag}), 304),
        (Request("GET", file, {"If-Modified-Since": modified}), 304),
        (Request("HEAD", file, {"If-None-Match": tag}), 304),
        (Request("GET", "/moved"), 301),
        (Request("GET", "/folder"), 301),
        (Request("HEAD", "/relative"), 302),
        (Request("PUT", "/elsewhere", body=b"moved along"), 307),
        (Request("GET", "/nothing"), 204),
        (Request("HEAD", "/nothing"), 204),
        (Request("GET", "/teapot"), 418),
        (Request("GET", "/missing"), 404),
        (Request("HEAD", "/missing"), 404),
        (Request("POST", file, body=b"nobody takes it"), 405),
        (Request("OPTIONS", file), 405),
        (Request("GET", "/1.bin?query=%2F&again=%C3%A4"), 200),
        (Request("GET", "/folder/..%2F1.bin"), 200),
        (Request("PUT", "/small/file", body=bytes(2000)), 413),
    ]

    answers = same_answers(places, [request for request, _ in expected], mode)

    assert [answer.status for answer in answers] == [status for _, status in expected]


def test_connection_outlives_an_upstream_that_closes_without_saying_so(places: Places) -> None:
    """nginx closes after a 412 that it has announced to keep the connection after: the visitor's next one goes on."""
    refused = Request("GET", "/1.bin", {"If-Match": '"other"'})
    requests = [refused, Request("GET", "/0.bin"), refused, Request("PUT", "/upload/x", body=b"x")] * 10

    for mode in ("keep-alive", "pipelined"):
        answers = ask(places.tunnel, places.host, requests, mode)

        assert [answer.status for answer in answers[:3]] == [412, 200, 412]
        assert all(answer.status in (200, 201, 204, 412) for answer in answers)
        assert all(answer.stays_open for answer in answers)


def test_clients_of_ltp_0_2_have_the_same(nginx: Nginx) -> None:
    lengths = LENGTHS[:-1]
    requests = [Request("GET", f"{coding}/{length}.bin") for coding in ("", "/chunked", "/gzip") for length in lengths]
    for length in lengths:
        for chunks in (0, 5000):
            target = f"/upload/{length}-{chunks}.bin"
            put = Request("PUT", target, body=content(length), chunks=chunks)
            requests += [put, Request("GET", target), Request("DELETE", target)]
    with exposed(nginx, "0.2") as places:
        for mode in ("keep-alive", "close", "pipelined"):
            same_answers(places, requests, mode)
