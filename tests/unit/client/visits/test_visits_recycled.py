"""localtunnel.client.visits.visits and visit: which proxy connections are given back, and what is said of them."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import LOOPBACK, Handler, read_head, read_to_end, request, running_upstream, unused_port, wait_until
from harness.state import server_key
from harness.tls import tls_pair

from localtunnel.client.events import RequestFinished, UpstreamFailed
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visit import MAX_AHEAD
from localtunnel.client.visits.visits import Visits
from localtunnel.net.address import Target
from localtunnel.net.flow.ends import End
from localtunnel.net.tls.context import server_context
from localtunnel.protocol.messages import Assignment
from localtunnel.protocol.wire.stream import END, Unchunker, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")

HELLO = request("demo.localhost", "/hello")
POST = request("demo.localhost", "/again", "POST", body=b"body")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Bench:
    """Visits over TLS to ``port``. ``given`` has each connection that was given back, and what was said of it."""

    def __init__(self, context: Any, port: int) -> None:
        self._context = context
        self.events: list[Any] = []
        self.given: list[tuple[Any, int, bool]] = []
        self.ours: list[Any] = []
        self.servers: list[Any] = []
        upstream = Upstream(Target((LOOPBACK,), port, f"{LOOPBACK}:{port}"), 5.0)
        upstream.resolve()
        self.visits = Visits(upstream, self.events.append)

    def begin(self, first: bytes = HELLO, *, kind: str = "http", real_ip: bool = True, recycle: bool = True) -> Any:
        """Begin a visit, and return the server's end of the proxy connection."""
        server, ours = tls_pair(self._context)
        self.ours.append(ours)
        self.servers.append(server)
        give_back = self._give_back if recycle else None
        assignment = Assignment(1, "203.0.113.7:51234", kind)
        self.visits.begin(ours, assignment, chunked(first), give_back, real_ip=real_ip)
        return server

    def _give_back(self, end: End, delivered: int, lacking: bool) -> None:
        self.given.append((end, delivered, lacking))

    def wait_for_the_end(self) -> None:
        wait_until(lambda: not len(self.visits), what="the end of the visit")

    def close(self) -> None:
        self.visits.end("end of the test")
        for end, *_ in self.given:
            end.reset()
        for sock in self.servers:
            sock.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Handler | None], Bench]]:
    """Returns a function that makes visits to an upstream with a handler, or to none."""
    key = tmp_path / "tls.pem"
    key.write_bytes(server_key())
    context = server_context(key, key)
    with contextlib.ExitStack() as stack:

        def build(handler: Handler | None) -> Bench:
            port = stack.enter_context(running_upstream(handler)) if handler is not None else unused_port()
            bench = Bench(context, port)
            stack.callback(bench.close)
            return bench

        yield build


def hear(sock: Any, until: bytes) -> bytes:
    """Return what comes up to ``until``, which must be the last thing to come so far."""
    heard = bytearray()

    def has_come() -> bool:
        with contextlib.suppress(BlockingIOError):
            piece = sock.recv(65536)
            assert piece, f"the connection ended after {bytes(heard)!r}"
            heard.extend(piece)
        return heard.endswith(until)

    wait_until(has_come, what=f"{until!r}")
    return bytes(heard)


def keep_alive(sock: socket.socket) -> None:
    """Answer one request after the other."""
    while read_head(sock):
        sock.sendall(OK)


def test_after_a_whole_answer_it_is_given_back_and_the_upstream_closed(make):
    closed = []

    def serve(sock):
        keep_alive(sock)
        closed.append(True)

    bench = make(serve)
    server = bench.begin()
    hear(server, chunked(OK))
    server.send(chunked(POST))
    hear(server, chunked(OK))
    server.send(END)
    bench.wait_for_the_end()
    ((end, delivered, lacking),) = bench.given
    assert (delivered, lacking) == (len(HELLO + POST), False)
    assert end.sock is bench.ours[0]
    assert end.goes_on
    assert end.part(b"next")
    assert hear(server, END + b"next") == END + b"next"
    wait_until(lambda: closed, what="the upstream's connection is closed")
    reported = [(event.path, event.status, event.error) for event in bench.events]
    assert reported == [("/hello", 200, None), ("/again", 200, None)]


def test_it_says_what_the_upstream_did_not_get(make):
    def serve(sock):
        read_head(sock)
        sock.sendall(OK)

    bench = make(serve)
    server = bench.begin()
    # The upstream closes behind its answer; the next request is already on its way.
    hear(server, END)
    server.send(chunked(POST) + END)
    bench.wait_for_the_end()
    ((_, delivered, lacking),) = bench.given
    assert (delivered, lacking) == (len(HELLO), True)
    assert [event.path for event in bench.events] == ["/hello"]


@pytest.mark.parametrize(("kind", "real_ip"), [("http", False), ("tcp", True)], ids=["join", "TCP"])
def test_where_the_server_reads_no_http_the_upstream_ends_by_itself(make, kind, real_ip):
    seen = []

    def serve(sock):
        read_head(sock)
        sock.sendall(OK)
        seen.append(read_to_end(sock))
        sock.sendall(b"more")

    bench = make(serve)
    server = bench.begin(kind=kind, real_ip=real_ip)
    hear(server, chunked(OK))
    server.send(END)
    hear(server, chunked(b"more"))
    bench.wait_for_the_end()
    ((end, delivered, lacking),) = bench.given
    assert (delivered, lacking) == (len(HELLO), False)
    assert seen == [b""]
    assert end.part()
    assert end.rest == b""


@pytest.mark.parametrize("size", [MAX_AHEAD, MAX_AHEAD + 1])
@pytest.mark.parametrize(("kind", "real_ip"), [("http", False), ("tcp", True), ("http", True)])
def test_where_the_server_may_be_kept_from_reading_on_it_is_closed(make, kind, real_ip, size):
    """As many bytes as the kernel takes for a visitor who does not read keep it from nothing; a server that reads
    HTTP has read them all."""

    def serve(sock):
        read_head(sock)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
        body = bytes(size - len(head % size))
        sock.sendall(head % len(body) + body)

    bench = make(serve)
    server = bench.begin(kind=kind, real_ip=real_ip)
    server.send(END)
    bench.wait_for_the_end()
    stream, answer = Unchunker(), bytearray()

    def is_heard():
        with contextlib.suppress(BlockingIOError):
            answer.extend(stream.feed(server.recv(65536)))
        # The messages in front of it are framed as chunks are.
        return len(answer.partition(b'{"ready":1}')[2]) == size

    wait_until(is_heard, what="the whole answer")
    is_read = kind == "http" and real_ip
    assert len(bench.given) == (is_read or size == MAX_AHEAD)
    if not bench.given:
        wait_until(lambda: bench.ours[0].fileno() < 0, what="it is closed")


def test_where_it_was_not_agreed_it_is_closed(make):
    bench = make(keep_alive)
    server = bench.begin(recycle=False)
    hear(server, chunked(OK))
    server.send(END)
    bench.wait_for_the_end()
    hear(server, END)
    assert bench.given == []
    assert bench.ours[0].fileno() < 0


def test_one_without_an_upstream_is_closed(make):
    bench = make(None)
    server = bench.begin()
    wait_until(lambda: len(bench.events) == 2, what="the report")
    assert [type(event) for event in bench.events] == [UpstreamFailed, RequestFinished]
    server.close()
    bench.wait_for_the_end()
    assert bench.given == []
    wait_until(lambda: bench.ours[0].fileno() < 0, what="it is closed")


@pytest.mark.parametrize("cut", ["aborted", "cut", "garbage"])
def test_one_that_is_cut_is_closed(make, cut):
    bench = make(keep_alive)
    if cut == "garbage":
        bench.begin().send(END + b"x")
    else:
        server = bench.begin()
        hear(server, chunked(OK))
        bench.visits.end("stopped") if cut == "aborted" else server.close()
    bench.wait_for_the_end()
    assert bench.given == []
    wait_until(lambda: bench.ours[0].fileno() < 0, what="it is closed")
