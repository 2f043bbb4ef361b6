"""What the client's user sees of requests, through both programs: each of them by itself, whoever sent it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import websocket
from gevent import socket
from gevent.event import Event
from harness import (
    CAP,
    ClientProcess,
    Handler,
    ServerProcess,
    at_most,
    connect,
    read_exactly,
    read_head,
    read_to_end,
    request,
    running_upstream,
    unused_port,
)
from harness.beside import curl
from harness.exchanges import Stream
from harness.web_programs import websockets

from localtunnel.http.observer import MAX_HEAD
from localtunnel.protocol.limits import MAX_HEAD_FIELDS

ELSEWHERE = "127.0.0.2"
MEGABYTE = 1 << 20
LINKS = pytest.mark.parametrize("options", [(), ("--insecure",)], ids=["TLS", "clear"])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.fixture(scope="module")
def plain_server() -> Iterator[ServerProcess]:
    with ServerProcess(config='edge = "join"\n') as running:
        yield running


@contextmanager
def tunnel(server: ServerProcess, handler: Handler, *options: str) -> Iterator[tuple[ClientProcess, str]]:
    """Expose an upstream of ``handler``; yields the client and the tunnel's host."""
    with running_upstream(handler) as port, ClientProcess(port, *options, server=server.frontend) as client:
        yield client, client.wait_until_open().removeprefix("http://")


def serve(sock: socket.socket) -> None:
    """Answer one request after the other: ``/N`` with N bytes, counted, or in one chunk where N begins with ``c``."""
    stream = Stream(sock)
    while True:
        try:
            asked = stream.message()
        except AssertionError:
            return
        _, path, _ = asked.start.split(" ")
        size = path.partition("?")[0].strip("/c")
        body = b"x" * int(size or 0)
        if "c" in path:
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def finished(client: ClientProcess, count: int) -> list[dict[str, Any]]:
    """Return the first ``count`` finished requests, in their order."""
    client.wait_for_event("request_finished", count)
    return [event for event in client.events if event["event"] == "request_finished"]


def kinds(client: ClientProcess) -> list[str]:
    """Return the names of what happened to visitors."""
    return [event["event"] for event in client.events if event["event"].startswith(("request", "visitor", "upstream"))]


@LINKS
def test_each_visitor_of_a_shared_connection_has_its_own_requests(server: ServerProcess, options: tuple[str]) -> None:
    with tunnel(server, serve, *options) as (client, host):
        with connect(server.frontend) as one, connect(server.frontend, ELSEWHERE) as other:
            for sock, path in [(one, "/5"), (other, "/c7?q"), (one, "/0")]:
                sock.sendall(request(host, path))
                assert Stream(sock).message().status == 200
        events = finished(client, 3)
        assert [(event["visitor"], event["path"], event["status"], event["sent"]) for event in events] == [
            ("127.0.0.1", "/5", 200, 5),
            (ELSEWHERE, "/c7?q", 200, 7),
            ("127.0.0.1", "/0", 200, 0),
        ]
        assert {event["connection"] for event in events} == {1}
        assert [event["number"] for event in events] == [1, 2, 3]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in client.events)


def test_a_visitor_cannot_hide_those_that_follow_behind_as_many_fields_as_the_server_takes(
    server: ServerProcess,
) -> None:
    """The server adds some to them, and its connection to the client goes on to others."""
    most = "".join(f"X-{number}: y\r\n" for number in range(MAX_HEAD_FIELDS - 1))
    with tunnel(server, serve) as (client, host), connect(server.frontend) as one, connect(server.frontend) as other:
        for sock, path, fields in ((one, "/1", most), (other, "/2", ""), (one, "/3", "")):
            sock.sendall(request(host, path, fields=fields))
            assert Stream(sock).message().status == 200
        events = finished(client, 3)
        assert [(event["connection"], event["path"]) for event in events] == [(1, "/1"), (1, "/2"), (1, "/3")]


@pytest.mark.slow
@LINKS
def test_a_request_behind_a_large_body_is_seen_though_bodies_move_unseen(
    server: ServerProcess, options: tuple[str]
) -> None:
    size = 20 * MEGABYTE
    with tunnel(server, serve, *options) as (client, host), connect(server.frontend) as sock:
        visitor = Stream(sock)
        for path in (f"/{size}", "/1", f"/c{size}", "/2"):
            sock.sendall(request(host, path))
            assert len(visitor.message().body) == int(path.strip("/c"))
        body = b"y" * size
        sending = gevent.spawn(sock.sendall, request(host, "/3", method="PUT", body=body) + request(host, "/4"))
        assert [len(visitor.message().body) for _ in range(2)] == [3, 4]
        sending.get(timeout=CAP)
        moved = [(event["received"], event["sent"]) for event in finished(client, 6)]
        assert moved == [(0, size), (0, 1), (0, size), (0, 2), (size, 3), (0, 4)]


def test_curl_is_seen_request_by_request(server: ServerProcess) -> None:
    with tunnel(server, serve) as (client, host):
        done = curl(f"http://{host}/3", f"http://{host}/4", "--head", "--next", "-d", "a=b", f"http://{host}/5")
        assert done.returncode == 0, done.stderr
        events = finished(client, 3)
        assert [(e["method"], e["path"], e["received"], e["sent"]) for e in events] == [
            ("HEAD", "/3", 0, 0),
            ("HEAD", "/4", 0, 0),
            ("POST", "/5", 3, 5),
        ]


def test_a_websocket_is_seen_when_it_begins_and_when_it_ends(server: ServerProcess, tmp_path: Path) -> None:
    with websockets(tmp_path) as port, ClientProcess(port, server=server.frontend) as client:
        host = client.wait_until_open().removeprefix("http://")
        chat = websocket.create_connection(f"ws://{host}/chat", socket=connect(server.frontend))
        started = client.wait_for_event("request_started")
        assert (started["path"], started["status"], started["visitor"]) == ("/chat", 101, "127.0.0.1")
        assert "request_finished" not in kinds(client)
        chat.send("hello")
        assert chat.recv()
        chat.close(timeout=CAP)
        (end,) = finished(client, 1)
        assert (end["number"], end["status"]) == (started["number"], 101)
        # Masked frames from the visitor, one of text and one that closes.
        assert end["received"] == 6 + len("hello") + 6 + 2
        assert end["sent"] > len("hello")
        assert kinds(client) == ["request_started", "request_finished"]


def test_a_stream_of_events_is_seen_when_it_begins(server: ServerProcess) -> None:
    go_on = Event()

    def send_events(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        go_on.wait()

    with tunnel(server, send_events) as (client, host), connect(server.frontend) as visitor:
        visitor.sendall(request(host, "/events"))
        assert client.wait_for_event("request_started")["status"] == 200
        go_on.set()
        assert read_to_end(visitor).endswith(b"data: 1\n\n")
        (end,) = finished(client, 1)
        assert (end["sent"], end["error"]) == (len(b"data: 1\n\n"), None)


def test_a_request_without_an_answer_is_seen_while_it_waits(server: ServerProcess) -> None:
    go_on = Event()

    def answer_late(sock: socket.socket) -> None:
        read_head(sock)
        go_on.wait()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with tunnel(server, answer_late) as (client, host), connect(server.frontend) as visitor:
        visitor.sendall(request(host, "/slow"))
        assert client.wait_for_event("request_started")["status"] is None
        go_on.set()
        assert finished(client, 1)[0]["seconds"] > 0.9


@pytest.mark.parametrize("closes", ["visitor", "upstream"])
def test_an_exchange_that_is_broken_off_says_by_whom(server: ServerProcess, closes: str) -> None:
    go_on = Event()

    def answer_half(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        if closes == "upstream":
            go_on.wait()
        else:
            read_to_end(sock)

    with tunnel(server, answer_half) as (client, host):
        with connect(server.frontend) as visitor:
            visitor.sendall(request(host))
            assert read_exactly(visitor, 20)
            if closes == "upstream":
                go_on.set()
                finished(client, 1)
        (end,) = finished(client, 1)
        error = "visitor_gone" if closes == "visitor" else "upstream_closed"
        assert (end["status"], end["sent"], end["error"]) == (200, 4, error)


def test_a_request_whose_target_is_down_is_seen_with_the_status_that_was_given(server: ServerProcess) -> None:
    with ClientProcess(9, server=server.frontend) as client:
        host = client.wait_until_open().removeprefix("http://")
        with connect(server.frontend) as visitor:
            visitor.sendall(request(host, "/down"))
            assert Stream(visitor).message().status == 502
        (end,) = finished(client, 1)
        assert (end["visitor"], end["path"]) == ("127.0.0.1", "/down")
        assert (end["status"], end["error"]) == (502, "upstream_refused")
        assert kinds(client) == ["upstream_failed", "request_finished"]


def test_what_the_server_refused_is_told_by_it(server: ServerProcess) -> None:
    with tunnel(server, serve, "--protect=ann:secret") as (client, host):
        with connect(server.frontend) as visitor:
            visitor.sendall(request(host))
            assert Stream(visitor).message().status == 401
        assert client.wait_for_event("server_notice")["text"] == "The server refused a request: 401 unauthorized."
        assert kinds(client) == []


# Where a connection is one visitor's.


def test_pipelined_requests_in_join_mode_are_all_of_the_visitor_who_sent_them(plain_server: ServerProcess) -> None:
    """There the server passes on what the visitor says of itself."""
    with tunnel(plain_server, serve) as (client, host), connect(plain_server.frontend) as visitor:
        asked = [("/1", ""), ("/c2", "X-Real-IP: 192.0.2.66\r\n"), ("/3", "X-Real-IP: 127.0.0.1\r\n")]
        visitor.sendall(b"".join(request(host, path, fields=fields) for path, fields in asked))
        stream = Stream(visitor)
        assert [len(stream.message().body) for _ in asked] == [1, 2, 3]
        events = finished(client, 3)
        assert [(event["visitor"], event["path"]) for event in events] == [
            ("127.0.0.1", "/1"),
            ("127.0.0.1", "/c2"),
            ("127.0.0.1", "/3"),
        ]


def test_http_1_0_in_join_mode_ends_with_its_connection(plain_server: ServerProcess) -> None:
    def answer(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    with tunnel(plain_server, answer) as (client, host):
        done = curl("--http1.0", f"http://{host}/old")
        assert done.stdout == b"all of it"
        (end,) = finished(client, 1)
        assert (end["path"], end["sent"], end["error"]) == ("/old", 9, None)


def test_what_is_not_http_is_a_connection_and_passes_untouched(plain_server: ServerProcess) -> None:
    after = bytes(range(256)) * 64

    def echo(sock: socket.socket) -> None:
        data = read_head(sock).partition(b"\r\n\r\n")[2] or sock.recv(65536)
        while data:
            sock.sendall(data)
            data = sock.recv(65536)

    with tunnel(plain_server, echo) as (client, host), connect(plain_server.frontend) as visitor:
        visitor.sendall(request(host))
        visitor.sendall(after)
        assert read_exactly(visitor, len(after)) == after
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor) == b""
        joined, left = client.wait_for_event("visitor_joined"), client.wait_for_event("visitor_left")
        assert joined["peer"].startswith("127.0.0.1:")
        assert left["received"] == len(request(host) + after)
        assert left["sent"] == len(after)


def test_a_client_of_0_2_sees_requests_and_not_their_visitors() -> None:
    with ServerProcess(config='legacy = "only"\n') as server, tunnel(server, serve, "--legacy") as (client, host):
        with connect(server.frontend) as sock:
            visitor = Stream(sock)
            for path in ("/1", "/2"):
                sock.sendall(request(host, path))
                assert visitor.message().status == 200
        assert [(event["visitor"], event["path"]) for event in finished(client, 2)] == [(None, "/1"), (None, "/2")]


def test_a_tcp_tunnel_has_connections_even_if_http_passes() -> None:
    public = unused_port()
    with (
        ServerProcess(config=f'tcp_ports = "{public}-{public}"\n') as server,
        running_upstream(serve) as port,
        ClientProcess(port, "tcp", server=server.frontend) as client,
    ):
        client.wait_until_open()
        with connect((server.frontend[0], public)) as visitor:
            visitor.sendall(request("a", "/5"))
            assert Stream(visitor).message().body == b"x" * 5
        client.wait_for_event("visitor_left")
        assert kinds(client) == ["visitor_joined", "visitor_left"]


# Hostile upstreams.


@pytest.mark.slow
@pytest.mark.parametrize("flood", [b"X-A: b\r\n", b"x" * 64], ids=["fields", "a line"])
def test_a_head_without_end_costs_the_client_no_memory(plain_server: ServerProcess, flood: bytes) -> None:
    size = 64 * MEGABYTE
    start = b"HTTP/1.1 200 OK\r\n"

    def answer(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(start)
        for _ in range(size // MEGABYTE):
            sock.sendall(flood * (MEGABYTE // len(flood)))

    with tunnel(plain_server, answer) as (client, host), connect(plain_server.frontend) as visitor:
        visitor.sendall(request(host))
        before = peak_memory(client)
        assert read_exactly(visitor, len(start)) == start
        with at_most(CAP):
            left = size
            while left:
                left -= len(visitor.recv(MEGABYTE))
        (end,) = finished(client, 1)
        assert end["error"] == "upstream_invalid"
        assert client.wait_for_event("visitor_joined")
        assert peak_memory(client) - before < 8 * MEGABYTE + 4 * MAX_HEAD


def peak_memory(client: ClientProcess) -> int:
    """Return the most memory that the process has ever had resident, in bytes."""
    status = Path(f"/proc/{client.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
