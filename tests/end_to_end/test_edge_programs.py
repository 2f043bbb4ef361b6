"""Web servers as people run them, with visitors who come and go: nobody may notice that connections are reused."""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import gevent
import msgspec
import pytest
import websocket
from harness import CAP, ClientProcess, ServerProcess, connect, web_programs
from harness.http_visitor import Request, Visitor

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20

KEPT = 1.0
"""Seconds for which the server keeps a joined connection: pauses around it meet its closing one."""

METHODS = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"]


class Program(msgspec.Struct):
    """How to start one, how many visitors come at once, and for how long all of them pause ``rounds - 1`` times."""

    start: Callable[[Path], AbstractContextManager[int]]
    visitors: int
    pause: float
    rounds: int


PROGRAMS = {
    "flask": Program(web_programs.flask, 12, 0.1, 3),
    "flask, one thread": Program(lambda path: web_programs.flask(path, "--without-threads"), 12, 0.1, 3),
    "http.server 1.0": Program(lambda path: web_programs.http_server(path, "HTTP/1.0"), 4, 0.1, 3),
    "http.server 1.1": Program(lambda path: web_programs.http_server(path, "HTTP/1.1"), 4, 0.1, 3),
    "node": Program(lambda path: web_programs.node(path, 5.0), 12, KEPT, 2),
    "node, 1 s": Program(lambda path: web_programs.node(path, 0.005), 12, 1.0, 4),
    "gunicorn, sync": Program(lambda path: web_programs.gunicorn(path, "--workers=2"), 12, 0.1, 3),
    "gunicorn, threads": Program(lambda path: web_programs.gunicorn(path, "--threads=8", "--keep-alive=2"), 12, 2.0, 3),
}

BURST = 0.3
"""Seconds for which visitors ask for one thing after the other between two pauses."""

JITTER = (0.05, 0.0, 0.003, -0.003, 0.01)
"""Seconds by which one pause after the other differs, for all visitors: they come when connections have been closed
lately, or are just being closed."""


def come_and_go(visitor: Visitor, name: str, program: Program) -> int:
    """Ask for one thing after the other, pause with all others, and return how many were answered as they must."""
    generator = random.Random(name)
    answered = 0
    for turn in range(program.rounds):
        if turn:
            gevent.sleep(program.pause + JITTER[turn - 1])
        end = time.monotonic() + BURST
        method = "GET"
        while time.monotonic() < end:
            body = generator.randbytes(generator.choice([1, 1000, 100_000])) if method in ("POST", "PUT") else b""
            answer = visitor.ask(Request(method, f"/echo/{name}", body=body))
            expected = b"" if method == "HEAD" else f"{method} {name}\n".encode() + body
            is_same = (answer.status, answer.body) == (200, expected)
            assert is_same, f"{method} after {answered} answers: {answer.status} {answer.body[:300]!r}"
            answered += 1
            method = generator.choice(METHODS)
    return answered


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_every_request_is_answered(program: Program, tmp_path: Path) -> None:
    """No visitor meets a connection that its upstream has just closed, or waits for one that another keeps."""
    with (
        program.start(tmp_path) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        visitors = [Visitor(server.frontend, "demo.localhost") for _ in range(program.visitors)]
        coming = [gevent.spawn(come_and_go, visitor, str(number), program) for number, visitor in enumerate(visitors)]
        try:
            gevent.joinall(coming, raise_error=True)
        finally:
            gevent.killall(coming)
            for visitor in visitors:
                visitor.close()
        assert all(greenlet.value >= program.rounds for greenlet in coming)


def test_websocket_messages_of_a_megabyte(tmp_path: Path) -> None:
    generator = random.Random(6)
    with (
        web_programs.websockets(tmp_path) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        chat = websocket.create_connection(
            "ws://demo.localhost/", socket=connect(server.frontend, cap=CAP), enable_multithread=False
        )
        for size in (MEGABYTE, 1, MEGABYTE + 1, 0, 5 * MEGABYTE):
            message = generator.randbytes(size)
            sending = gevent.spawn(chat.send_binary, message)
            is_same = chat.recv() == message
            assert is_same, f"another message of {size} bytes"
            sending.get()
        # What is under way in both directions at once.
        message = generator.randbytes(MEGABYTE)
        sending = gevent.spawn(lambda: [chat.send_binary(message) for _ in range(8)])
        for _ in range(8):
            is_same = chat.recv() == message
            assert is_same
        sending.get()
        chat.close(timeout=CAP)
        assert not chat.connected
