"""Web servers as people run them, with the faults that they really have: can a second visitor notice the first?

In the releases of 2026 that was so of Python's http.server alone, which leaves the body of a GET unread. Others did in
the releases before, and people have them still: tests/harness/upstreams.py has their ways.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import gevent
import pytest
from harness import connect, frontend, request, running_client, running_server, web_programs
from harness.exchanges import Stream
from harness.sockets import LOOPBACK, Address
from harness.v3 import end

from localtunnel.http import lending

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]

HOST = "demo.localhost"
VICTIMS = 2

PROGRAMS: dict[str, Callable[[Path], AbstractContextManager[int]]] = {
    "flask": web_programs.apart_flask,
    "gunicorn, threads": web_programs.apart_gunicorn,
    "django": web_programs.apart_django,
    "uvicorn, h11": lambda directory: web_programs.apart_uvicorn(directory, "h11"),
    "uvicorn, httptools": lambda directory: web_programs.apart_uvicorn(directory, "httptools"),
    "daphne": web_programs.apart_daphne,
    "node": web_programs.apart_node,
    "http.server": web_programs.stock_http_server,
    "php": web_programs.apart_php,
}

HIDDEN = request(HOST, "/echo/attacker")
BEGUN = HIDDEN[:-2] + b"X-Rest: "
"""What an upstream that leaves a body unread takes for the next request, or for the beginning of one: the request line
of the next visitor is the rest of a field then, and the fields of that visitor are the attacker's."""

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"


def in_chunks(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def with_bodies(kind: str, body: bytes) -> dict[str, bytes]:
    """Return every way to send ``body``."""
    chunked = "Transfer-Encoding: chunked\r\n"
    ignored, read = "/ignore/attacker", "/echo/attacker"
    return {
        f"{kind}": request(HOST, ignored, "POST", body=body),
        f"{kind} in chunks": request(HOST, ignored, "POST", chunked) + in_chunks(body),
        f"{kind} that is read": request(HOST, read, "POST", body=body),
        f"{kind} in chunks that are read": request(HOST, read, "POST", chunked) + in_chunks(body),
        f"{kind} of a GET": request(HOST, read, body=body),
        f"{kind} in chunks of a GET": request(HOST, ignored, fields=chunked) + in_chunks(body),
        f"{kind} of a DELETE": request(HOST, ignored, "DELETE", body=body),
        f"{kind} of HEAD": request(HOST, ignored, "HEAD", body=body),
        f"{kind} for what is not there": request(HOST, "/", "PUT", body=body),
        f"{kind} that was to wait": request(HOST, ignored, "POST", "Expect: 100-continue\r\n", body),
    }


ATTACKS = {
    **with_bodies("a hidden request", HIDDEN),
    **with_bodies("a request begun", BEGUN),
    "an expectation of nothing": request(HOST, "/ignore/attacker", fields="Expect: 100-continue\r\n"),
    "HEAD": request(HOST, "/echo/attacker", "HEAD"),
    "204": request(HOST, "/empty/attacker"),
    "304": request(HOST, "/unchanged/attacker"),
    "HEAD, 204": request(HOST, "/empty/attacker", "HEAD"),
    "404": request(HOST, "/"),
    "OPTIONS": request(HOST, "*", "OPTIONS"),
    "a method of nobody": request(HOST, "/echo/attacker", "PURGE"),
    "an upgrade": request(HOST, "/echo/attacker", fields=UPGRADE),
    "a long target": request(HOST, f"/echo/attacker?{'x' * 60_000}"),
    "a long head": request(HOST, "/echo/attacker", fields="".join(f"X-{n}: {'x' * 900}\r\n" for n in range(60))),
}


def method_of(data: bytes) -> str:
    return data.partition(b" ")[0].decode()


def final_answer(stream: Stream, method: str) -> None:
    """Read up to the end of the answer to ``method``, as a proxy does."""
    while stream.message(method).status < 200:
        pass


def what_comes_next(port: int, attack: bytes) -> str:
    """Ask the server itself, and say what a second request on the same connection is answered."""
    stream = Stream(connect((LOOPBACK, port)))
    try:
        stream.send(attack)
        final_answer(stream, method_of(attack))
        gevent.sleep(0.02)
        stream.send(request(HOST, "/echo/victim"))
        answer = stream.message()
    except (AssertionError, OSError):
        return "closed"
    except (ValueError, IndexError):
        return "wrong"
    finally:
        stream.close()
    return "right" if answer.body == b"GET victim\n" else "wrong"


def is_served(address: Address, name: str) -> str:
    """Ask as somebody who has nothing to do with it; return what is wrong about the answer."""
    stream = Stream(connect(address))
    try:
        stream.send(request(HOST, f"/echo/{name}", fields="Connection: close\r\n"))
        answer = stream.message()
    finally:
        stream.close()
    right = (answer.status, answer.body) == (200, f"GET {name}\n".encode())
    return "" if right else f"{name} got {answer.status} {answer.body[:60]!r}"


def attack(address: Address, data: bytes) -> None:
    """Send ``data`` and wait for its answer, whatever it is."""
    stream = Stream(connect(address))
    stream.send(data)
    try:
        final_answer(stream, method_of(data))
    except (AssertionError, OSError):
        pass
    stream.close()


def abort(address: Address, data: bytes) -> None:
    """Send most of ``data``, and reset."""
    stream = Stream(connect(address))
    stream.send(data[: -len(BEGUN) // 2])
    # A reset drops what has not been read yet. How far the data gets is a matter of chance, and no case is wrong.
    gevent.sleep(0.005)
    end(stream.sock, "RST")


def noticed(address: Address, rounds: int = 1) -> list[str]:
    """Let an attacker do everything that it can, and victims ask behind each; return what these noticed."""
    found = []
    for name, data in ATTACKS.items():
        for turn in range(rounds):
            for how in (attack, abort):
                if how is attack:
                    # Something that leaves a connection to be lent.
                    is_served(address, f"victim-{VICTIMS}")
                how(address, data)
                asking = [gevent.spawn(is_served, address, f"victim-{number}") for number in range(VICTIMS)]
                gevent.joinall(asking, raise_error=True)
                found += [f"{name}, {how.__name__}, {turn}: {each.value}" for each in asking if each.value]
    return found


@contextmanager
def tunnel(port: int) -> Iterator[Address]:
    """Run a server and a client for what listens on ``port``; yields where visitors connect."""
    with running_server() as server, running_client(frontend(server), port, name="demo"):
        yield frontend(server)


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_visitor_notices_another(program: str, tmp_path: Path) -> None:
    with PROGRAMS[program](tmp_path) as port, tunnel(port) as address:
        assert noticed(address) == []


def test_without_the_cure_they_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked by itself first, without a tunnel: the fault is its own."""
    monkeypatch.setattr(lending, "leaves_nothing", lambda *_: True)
    with web_programs.stock_http_server(tmp_path) as port, tunnel(port) as address:
        faults = {name for name, data in ATTACKS.items() if what_comes_next(port, data) == "wrong"}
        assert faults >= {"a request begun of a GET", "a request begun of HEAD"}
        found = {each.partition(",")[0] for each in noticed(address, 3)}
        assert found & faults
