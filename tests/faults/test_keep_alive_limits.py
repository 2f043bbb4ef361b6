"""Upstreams that close an idle connection while a POST is in flight: none comes twice, and none is lost needlessly.

Over TLS, a visitor's POSTs ride on one joined connection for as long as it is used every second. An upstream that keeps
connections closes them when it likes, and what is in flight then may go out again only where nothing of it has arrived.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import gevent
import msgspec
import pytest
from gevent import socket
from harness import backend, frontend, running_client, running_server, running_upstream, web_programs
from harness.http_visitor import Request, Visitor
from harness.link import Link

from localtunnel.server.tunnels.kept import KEPT_IDLE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]

VISITORS = 10

LONGEST_GAP = 0.024
"""Seconds from an answer to the visitor's next request, at the most."""


TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""What some say before they close an idle connection."""


class Fickle:
    """An upstream that closes each connection at a random moment after an answer, with some ``last`` words.

    A ``dropped`` part of the requests it reads and does not answer. ``received`` counts each request of which a byte
    has come, by its target, and ``answered`` has those that were answered.
    """

    def __init__(self, patience: float, dropped: float, last: bytes) -> None:
        self.received: Counter[str] = Counter()
        self.answered: set[str] = set()
        self.connections = 0
        self._patience = patience
        self._dropped = dropped
        self._last = last
        self._random = random.Random(11)

    def serve(self, sock: socket.socket) -> None:
        """Serve one connection."""
        self.connections += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        patience = sock.gettimeout()
        while self._serve_one(sock):
            sock.settimeout(self._random.uniform(0.0, self._patience))
        # The end goes out first. What has come by then, or still comes, is never answered.
        sock.settimeout(patience)
        sock.sendall(self._last)
        sock.shutdown(socket.SHUT_WR)
        late = b""
        while data := sock.recv(65536):
            late += data
        if late:
            self._target(late)

    def _serve_one(self, sock: socket.socket) -> bool:
        try:
            data = sock.recv(65536)
        except TimeoutError:
            return False
        if not data:
            return False
        target = self._target(data)
        while not data.endswith(b"\r\n\r\n" + target.encode()):
            data += sock.recv(65536)
        if self._random.random() < self._dropped:
            return False
        self.answered.add(target)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target.encode()))
        return True

    def _target(self, data: bytes) -> str:
        assert data.startswith(b"POST /")
        target = data.split(b" ", 2)[1].decode()
        self.received[target] += 1
        return target


def post(visitor: Visitor, name: str, count: int) -> dict[str, int]:
    """Post one thing after the other on one connection; return the status for each."""
    generator = random.Random(name)
    statuses = {}
    for number in range(count):
        gevent.sleep(generator.uniform(0.0, LONGEST_GAP))
        target = f"/{name}-{number}"
        answer = visitor.ask(Request("POST", target, body=target.encode()))
        # Last words that meet a request on the upstream's doorstep are an answer to it, as they are without a tunnel.
        assert answer.status in (408, 502) or (answer.status, answer.body) == (200, target.encode())
        statuses[target] = answer.status
    return statuses


class Case(msgspec.Struct):
    """A way between client and server, and what the upstream does: it waits for up to ``patience`` seconds."""

    insecure: bool = False
    delay: float = 0.0
    patience: float = 0.02
    dropped: float = 0.0
    last: bytes = b""
    posts: int = 200


CASES = {
    "TLS": Case(),
    "TLS, some dropped": Case(dropped=0.02),
    "TLS, far away": Case(delay=0.02, patience=0.15, posts=50),
    "TLS, far away, with last words": Case(delay=0.02, patience=0.15, last=TIMED_OUT, posts=50),
    "plain": Case(insecure=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_post_comes_once_at_most_and_fails_only_where_it_has_come(case: Case) -> None:
    upstream = Fickle(case.patience, case.dropped, case.last)
    with (
        running_upstream(upstream.serve) as port,
        running_server() as server,
        Link(backend(server), delay=case.delay) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=case.insecure),
    ):
        visitors = [Visitor(frontend(server), "demo.localhost") for _ in range(VISITORS)]
        posting = [gevent.spawn(post, visitor, str(number), case.posts) for number, visitor in enumerate(visitors)]
        try:
            gevent.joinall(posting, raise_error=True)
        finally:
            gevent.killall(posting)
            for visitor in visitors:
                visitor.close()
    statuses = {target: status for greenlet in posting for target, status in greenlet.value.items()}
    assert len(statuses) == case.posts * VISITORS
    assert set(upstream.received.values()) == {1}
    failed = {target for target, status in statuses.items() if status != 200}
    assert failed == set(upstream.received) - upstream.answered
    if case.insecure:
        # Each has a connection of its own.
        assert upstream.connections == len(statuses)
        assert not failed
    elif not case.delay:
        assert upstream.connections < len(statuses)


PROGRAMS: dict[str, tuple[Callable[[Path], AbstractContextManager[int]], float]] = {
    "gunicorn, 2 s": (lambda path: web_programs.gunicorn(path, "--threads=8", "--keep-alive=2"), 2.0),
    "node, 5 s": (lambda path: web_programs.node(path, 5.0), 5.0),
}
"""How to start each, and for how long it keeps an idle connection. Both look only now and then, up to a second late."""


def post_around(visitor: Visitor, name: str, limit: float) -> None:
    """Post at random moments around the ends of what server and upstream keep."""
    generator = random.Random(name)
    gaps = [generator.uniform(0.0, 0.05) for _ in range(4)]
    gaps += [generator.uniform(KEPT_IDLE - 0.05, KEPT_IDLE + 0.05) for _ in range(4)]
    gaps.append(generator.uniform(limit - 0.1, limit + 1.1))
    generator.shuffle(gaps)
    for number, gap in enumerate([0.0, *gaps]):
        gevent.sleep(gap)
        answer = visitor.ask(Request("POST", f"/once/{name}-{number}", body=b"x" * generator.choice([1, 5000])))
        assert (answer.status, answer.body) == (200, b"1"), f"number {number}, after {gap} s: {answer}"


@pytest.mark.parametrize(("start", "limit"), PROGRAMS.values(), ids=PROGRAMS)
def test_programs_get_every_post_once(
    start: Callable[[Path], AbstractContextManager[int]], limit: float, tmp_path: Path
) -> None:
    with (
        start(tmp_path) as port,
        running_server() as server,
        running_client(frontend(server), port, name="demo"),
    ):
        visitors = [Visitor(frontend(server), "demo.localhost") for _ in range(4 * VISITORS)]
        posting = [gevent.spawn(post_around, visitor, str(number), limit) for number, visitor in enumerate(visitors)]
        try:
            gevent.joinall(posting, raise_error=True)
        finally:
            gevent.killall(posting)
            for visitor in visitors:
                visitor.close()
