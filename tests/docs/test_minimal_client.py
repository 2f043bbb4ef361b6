"""docs/minimal_client.py at a real server, over TLS and in the clear: what it serves, and how it ends."""

import base64
import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket
from harness import (
    LOOPBACK,
    ROOT,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    read_exactly,
    read_head,
    read_message,
    read_to_end,
    request,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.inprocess import nothing_but
from harness.tls import TlsListening, tls_connect, write_certificate
from harness.v3 import RawBackend, assignment
from harness.vector_items import load
from harness.vector_runner import FakeServer, Run

from localtunnel import Server
from localtunnel.net.tls.keys import fingerprint

MEGABYTE = bytes(range(256)) * 4096
HOST = "demo.localhost"

either_way = pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "clear"])


@contextmanager
def minimal_client(address: tuple[str, int], port: int, output: Path, *key: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client for the upstream on ``port``, with the tunnel ``demo``; what it says goes to ``output``."""
    command = [sys.executable, str(ROOT / "docs" / "minimal_client.py"), "demo", str(port), address[0], str(address[1])]
    with output.open("wb") as file:
        process = subprocess.Popen([*command, *key], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def tunnel(server: Server, port: int, output: Path, encrypted: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run the client until the block has ended; its tunnel is open when the block begins."""
    with minimal_client(backend(server), port, output, *([key_of(server)] if encrypted else [])) as process:
        wait_until(lambda: b"is open" in output.read_bytes() or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        nothing_but(server, "demo")
        yield process


def key_of(server: Server) -> str:
    with tls_connect(backend(server)) as sock:
        return fingerprint(sock.getpeercert(True))


def answer_with_a_digest(sock: socket.socket) -> None:
    """Answer a request with its first line and the digest of its body, and close."""
    head, _, body = read_head(sock).partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    body += read_exactly(sock, int(fields.get(b"content-length", 0)) - len(body))
    said = head.split(b"\r\n")[0] + b" " + hashlib.sha256(body).hexdigest().encode()
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(said), said))


@either_way
def test_what_it_serves(tmp_path: Path, encrypted: bool) -> None:
    with (
        running_server() as server,
        running_upstream(answer_with_a_digest) as port,
        tunnel(server, port, tmp_path / "output", encrypted),
    ):
        for method, body in [("GET", b""), ("POST", b"name=value"), ("PUT", MEGABYTE)] * 3:
            response = fetch(frontend(server), request(HOST, "/path", method, body=body))
            said = f"{method} /path HTTP/1.1 {hashlib.sha256(body).hexdigest()}"
            assert (response.status, response.body.decode()) == (200, said)


@either_way
def test_a_download_is_whole_and_a_cut_one_is_not(tmp_path: Path, encrypted: bool) -> None:
    def serve(sock: socket.socket) -> None:
        """Send all of what was announced, or half of it and a reset."""
        is_whole = b"/whole" in read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(MEGABYTE))
        sock.sendall(MEGABYTE if is_whole else MEGABYTE[: len(MEGABYTE) // 2])
        if not is_whole:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))

    with (
        running_server() as server,
        running_upstream(serve) as port,
        tunnel(server, port, tmp_path / "output", encrypted),
    ):
        assert fetch(frontend(server), request(HOST, "/whole")).body == MEGABYTE
        with connect(frontend(server)) as visitor:
            visitor.sendall(request(HOST, "/cut"))
            with pytest.raises(ConnectionResetError):
                read_to_end(visitor)


@either_way
def test_a_visitor_while_the_upstream_is_down(tmp_path: Path, encrypted: bool) -> None:
    with running_server() as server, tunnel(server, unused_port(), tmp_path / "output", encrypted):
        for _ in range(6):
            response = fetch(frontend(server), request(HOST))
            assert (response.status, response.fields["x-localtunnel-error"]) == (502, "upstream_refused")


@either_way
def test_its_tunnel_outlasts_its_heartbeats_and_ends_at_ctrl_c(tmp_path: Path, encrypted: bool) -> None:
    with (
        running_server(timeouts={"heartbeat": 1.0}) as server,
        running_upstream(answer_with_a_digest) as port,
        tunnel(server, port, tmp_path / "output", encrypted) as process,
    ):
        gevent.sleep(5)  # Three intervals without a ping or a pong of its own would have ended it.
        assert process.poll() is None, (tmp_path / "output").read_text()
        assert fetch(frontend(server), request(HOST)).status == 200
        process.send_signal(signal.SIGINT)
        nothing_but(server)


@either_way
def test_ctrl_c_cuts_a_download_and_does_not_wait_for_it(tmp_path: Path, encrypted: bool) -> None:
    def serve(sock: socket.socket) -> None:
        """Begin an answer, and wait for the end of the connection."""
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        read_to_end(sock)

    with (
        running_server() as server,
        running_upstream(serve) as port,
        tunnel(server, port, tmp_path / "output", encrypted) as process,
        connect(frontend(server)) as visitor,
    ):
        visitor.sendall(request(HOST))
        assert read_head(visitor).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGINT)
        assert is_reset(visitor)
        wait_until(lambda: process.poll() is not None)


def test_it_says_nothing_to_a_server_with_another_key(tmp_path: Path) -> None:
    output = tmp_path / "output"
    key = "SHA256:" + base64.b64encode(bytes(32)).decode().rstrip("=")
    with TlsListening(write_certificate(trustme.CA(), tmp_path, "localhost")) as listening:
        with minimal_client((LOOPBACK, listening.port), 1, output, key) as process:
            wait_until(lambda: process.poll() is not None)
            assert process.returncode == 1
            assert "not the server with that fingerprint" in output.read_text()
        wait_until(lambda: listening.heard)
        assert not any(isinstance(heard, bytes) and heard for heard in listening.heard)


def test_it_takes_an_id_once(tmp_path: Path) -> None:
    with (
        RawBackend() as server,
        minimal_client((LOOPBACK, server.port), unused_port(), tmp_path / "output"),
        server.open_tunnel(size=2),
        server.accept_proxy() as first,
        server.accept_proxy() as second,
    ):
        first.sendall(assignment(7))
        assert read_message(first) == {"got": 7}
        assert read_message(first) == {"failed": {"id": 7, "error": "refused"}}
        second.sendall(assignment(7))
        assert read_message(second) == {"failed": {"id": 7, "error": "seen"}}


def test_it_ends_when_another_client_takes_the_tunnel(tmp_path: Path) -> None:
    with (
        RawBackend() as server,
        minimal_client((LOOPBACK, server.port), 1, tmp_path / "output") as process,
        server.open_tunnel() as control,
        server.accept_proxy() as parked,
    ):
        control.sendall(frame({"replaced": "Elsewhere."}))
        assert read_to_end(parked) == b""
        wait_until(lambda: process.poll() is not None)


def test_a_tunnel_that_has_expired_ends_it_without_giving_up_the_name(tmp_path: Path) -> None:
    """Whoever starts it again has the name, as long as that is kept."""
    with RawBackend() as server, minimal_client((LOOPBACK, server.port), 1, tmp_path / "output") as process:
        with server.open_tunnel() as control, server.accept_proxy() as parked:
            assert read_message(control) == {"control": "ping"}
            parked.sendall(frame({"error": "expired", "message": "There is no such tunnel."}))
            assert read_to_end(control) == b""
        wait_until(lambda: process.poll() is not None)


def test_what_is_no_assignment_costs_that_connection_alone(tmp_path: Path) -> None:
    with (
        RawBackend() as server,
        minimal_client((LOOPBACK, server.port), unused_port(), tmp_path / "output"),
        server.open_tunnel(),
    ):
        for said in ({"proxy": {"id": 0, "peer": "p"}}, {"proxy": {"id": 1}}, {"got": 1}, {"proxy": True}):
            with server.accept_proxy() as parked:
                parked.sendall(frame(said))
                assert is_reset(parked)
        with server.accept_proxy() as parked:
            parked.sendall(assignment(7))
            assert read_message(parked) == {"got": 7}


@pytest.mark.parametrize("end", [b"", b"\\"], ids=["quotes", "a backslash"])
def test_a_string_without_an_end_takes_no_time(tmp_path: Path, end: bytes) -> None:
    """Each of its quotes could begin another one."""
    with RawBackend() as server, minimal_client((LOOPBACK, server.port), 1, tmp_path / "output") as process:
        control, _ = server.accept_control()
        payload = b'"' + rb"\"" * 32000 + end
        control.sendall(len(payload).to_bytes(4, "big") + payload)
        wait_until(lambda: process.poll() is not None)
        assert "a payload is no message" in (tmp_path / "output").read_text()


def cases() -> Iterator[Any]:
    """Yield the cases of LTP/0.3 for a client that ends with its control connection, and sends nothing back."""
    for parameter in load("client.json"):
        case = parameter.values[0]
        beyond = {"options", "kind"} & case.keys() or re.search('"(control-2|recycle)"', json.dumps(case["steps"]))
        if case["version"] == "0.3" and not beyond:
            yield parameter


@pytest.mark.alone
@pytest.mark.parametrize("case", list(cases()))
def test_a_vector(case: dict[str, Any], tmp_path: Path) -> None:
    with ExitStack() as stack:
        fake = FakeServer(stack, version="0.3", upstream_refuses=case.get("upstream") == "refuses")
        address = LOOPBACK, fake.backend_port
        process = stack.enter_context(minimal_client(address, fake.upstream_port, tmp_path / "output"))
        Run(case, fake.connect, stack, lambda: process.send_signal(signal.SIGINT)).steps()
