"""What a Flask application does besides plain answers, and what browsers do with it, through the HTTP edge."""

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from harness import (
    Address,
    ClientProcess,
    ServerProcess,
    connect,
    fetch,
    parse_response,
    read_exactly,
    read_to_end,
    request,
    web_programs,
)
from harness.beside import rendered_page

pytestmark = pytest.mark.slow

CLOSE = "Connection: close\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.fixture(scope="module")
def flask(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The frontend, with a Flask application as ``flask.localhost``."""
    with (
        web_programs.flask(tmp_path_factory.mktemp("flask")) as port,
        ClientProcess(port, server=server.frontend, name="flask") as client,
    ):
        client.wait_until_open()
        yield server.frontend


@pytest.fixture(scope="module")
def node(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The frontend, with a Node server as ``node.localhost``."""
    with (
        web_programs.node(tmp_path_factory.mktemp("node"), 5.0) as port,
        ClientProcess(port, server=server.frontend, name="node") as client,
    ):
        client.wait_until_open()
        yield server.frontend


def tell(flask: Address, channel: str, message: bytes) -> None:
    """Have the application say ``message`` on a channel; an empty one ends the stream."""
    told = fetch(flask, request("flask.localhost", f"/channel/{channel}", "PUT", CLOSE, message))
    assert (told.status, told.body) == (200, b"told\n")


def test_events_come_one_by_one(flask: Address) -> None:
    """Each is sent only once the visitor has received the one before it; Flask makes a chunk of each."""
    with connect(flask) as visitor:
        visitor.sendall(request("flask.localhost", "/channel/news/events", fields=CLOSE))
        for number in range(20):
            tell(flask, "news", b"%d" % number)
            if number == 0:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += read_exactly(visitor, 1)
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"\r\nContent-Type: text/event-stream" in head
            event = b"data: %d\n\n" % number
            chunk = b"%x\r\n%b\r\n" % (len(event), event)
            assert read_exactly(visitor, len(chunk)) == chunk
        tell(flask, "news", b"")
        assert read_to_end(visitor) == b"0\r\n\r\n"


def test_long_polls_are_answered_when_there_is_something_to_say(flask: Address) -> None:
    """30 wait at the same time, and are answered in the reverse order."""
    visitors = [connect(flask, cap=20.0) for _ in range(30)]
    try:
        for number, visitor in enumerate(visitors):
            visitor.sendall(request("flask.localhost", f"/channel/poll-{number}", fields=CLOSE))
        answers = [gevent.spawn(read_to_end, visitor) for visitor in visitors]
        for number in reversed(range(len(visitors))):
            assert not any(answer.ready() for answer in answers[:number])
            tell(flask, f"poll-{number}", b"for %d" % number)
            assert parse_response(answers[number].get()).body == b"for %d" % number
    finally:
        for visitor in visitors:
            visitor.close()


def test_large_cookies_go_both_ways(flask: Address) -> None:
    """Some 12 KiB, as single sign-on makes them: four of the size that browsers take at most."""
    generator = random.Random(8)
    cookies = {f"session-{number}": "".join(generator.choices(string.ascii_letters, k=3000)) for number in range(4)}
    line = "Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()) + "\r\n"

    with connect(flask) as visitor:
        visitor.sendall(request("flask.localhost", "/field/Cookie", fields=line + CLOSE))
        answer = read_to_end(visitor)

    assert parse_response(answer).body == line.removeprefix("Cookie: ").rstrip().encode()
    for name, value in cookies.items():
        assert f"\r\nSet-Cookie: {name}={value}; Path=/\r\n".encode() in answer


def test_hundred_fields(node: Address) -> None:
    """As many as the edge takes, with Host and Connection; Node tells their order and spelling, and what was added."""
    own = [(f"X-Field-{number}", f'value {number}, "quoted"; a=b') for number in range(98)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in own)

    answer = fetch(node, request("node.localhost", "/fields/all", fields=lines + CLOSE))

    assert answer.status == 200
    told = json.loads(answer.body)
    fields = list(zip(told[::2], told[1::2], strict=True))
    assert fields[:99] == [("Host", "node.localhost"), *own]
    assert {name.lower() for name, _ in fields[99:]} >= {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}


def test_page_of_50_resources_in_a_browser(flask: Address, tmp_path: Path) -> None:
    """The browser asks for six at a time, on connections that it keeps."""
    page = rendered_page(f"http://flask.localhost:{flask[1]}/page", tmp_path)

    assert '<p id="result">50 of 50</p>' in page
