"""Visitors of upstreams that get HTTP wrong: none of them notices another, whatever any of them does.

Every request carries its visitor's number, in its target, a field and its body, and every answer repeats what the
upstream has seen of it; both are checked where they arrive. What crosses is a number at the wrong end.

A visitor's own connection to such an upstream is as it is without a tunnel: an answer may be to an earlier request of
the same visitor. That is counted apart.
"""

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import gevent
import pytest
from harness import frontend, request, running_client, running_server
from harness import upstreams as wrong
from harness.exchanges import Message, Stream
from harness.sockets import Address, connect
from harness.upstreams import Asked
from harness.v3 import end

from localtunnel.http import lending

pytestmark = pytest.mark.usefixtures("no_leaks")

VISITORS = 32

UPSTREAMS = [
    wrong.is_right,
    wrong.reads_no_bodies,
    wrong.reads_counted_bodies_only,
    wrong.answers_first,
    wrong.refuses_uploads,
    wrong.answers_head_with_a_body,
    wrong.answers_204_with_a_body,
    wrong.answers_304_with_a_body,
    wrong.answers_205_with_a_body,
    wrong.sends_a_surplus_at_once,
    wrong.chunks_whatever_the_version,
    wrong.chunks_204,
    wrong.extends_chunks,
    wrong.sends_trailers,
    wrong.sends_interim_answers,
    wrong.closes_while_idle,
    wrong.closes_at_once,
    wrong.ends_within_the_head,
    wrong.answers_within_the_head,
]
"""What visitors meet. Of a second answer to a plain GET that comes late, docs/security.md says what it can do."""

TUNNELS = {upstream.__name__.replace("_", "-"): upstream for upstream in UPSTREAMS}


class Ledger:
    """What was seen at either end."""

    def __init__(self) -> None:
        self.crossed: list[str] = []
        self.late: set[str] = set()
        """The tunnels whose upstream has given a visitor the answer to another request of its own."""
        self.asked = 0
        self.answered = 0
        self.refused = 0

    def see(self, asked: Asked) -> None:
        """Check a request as an upstream has read it.

        What a visitor has left on a connection of its own may come with its next request, whose field is a second one.
        """
        visitors = asked.visitor.split("\n")
        named = "".join(f"<{visitor}>" for visitor in visitors)
        self._hold(visitors[0], f"{asked.target} {named}".encode() + asked.body, "a request")

    def take(self, visitor: int, host: str, target: str, answer: Message) -> None:
        """Check what ``visitor`` was answered. An answer of the server's own is everybody's."""
        if "x-localtunnel-error" in answer.fields:
            self.refused += 1
            return
        if answer.status >= 200:
            self.answered += 1
        if answer.fields.get("x-visitor", str(visitor)) != str(visitor):
            self.crossed.append(f"{visitor} asked {target} and got the head of {answer.fields['x-visitor']}")
        if answer.body.startswith(f"{visitor} {target}\n".encode()) or not answer.body:
            pass
        elif answer.body.startswith(f"{visitor} /{visitor}/".encode()):
            self.late.add(host.partition(".")[0])
        else:
            self.crossed.append(f"{visitor} asked {target} and got {answer.body[:80]!r}")
        self._hold(str(visitor), answer.fields.get("link", "").encode() + answer.body, "an answer")

    def _hold(self, visitor: str, content: bytes, what: str) -> None:
        numbers = {number.decode() for number in re.findall(rb"[</]([0-9]+)[>/]", content)}
        if not numbers <= {visitor}:
            self.crossed.append(f"{what} of {visitor} has something of {numbers}")


class Question(NamedTuple):
    """A request, and what its answer is held against."""

    host: str
    method: str
    target: str
    data: bytes


class Visitor:
    """Asks one thing after the other, on a connection of its own while that stays."""

    def __init__(self, address: Address, number: int, ledger: Ledger, requests: int) -> None:
        self._address = address
        self._number = number
        self._ledger = ledger
        self._requests = requests
        self._generator = random.Random(number)
        self._stream: Stream | None = None
        self._count = 0

    def run(self) -> None:
        """Ask everything."""
        choose = self._generator.choices
        ways = [self._ask, self._pipeline, self._abort, self._leave]
        while self._count < self._requests:
            (way,) = choose(ways, [85, 8, 5, 2])
            try:
                way()
            except OSError:
                self._hang_up()
        self._hang_up()

    def _ask(self, count: int = 1) -> None:
        """Send ``count`` requests in one piece, and read what comes for them."""
        asked = [self._request() for _ in range(count)]
        stream = self._connected()
        stream.send(b"".join(each.data for each in asked))
        for each in asked:
            if not self._read(stream, each):
                self._hang_up()
                return

    def _pipeline(self) -> None:
        self._ask(self._generator.randint(2, 4))

    def _abort(self) -> None:
        """Reset the connection with a request half sent, or just sent."""
        data = self._request().data
        stream = self._connected()
        stream.send(data[: self._generator.randint(len(data) // 2, len(data))])
        gevent.sleep(self._generator.choice([0, 0.002]))
        end(stream.sock, "RST")
        self._stream = None

    def _leave(self) -> None:
        self._hang_up()
        gevent.sleep(self._generator.random() * 0.05)

    def _read(self, stream: Stream, asked: Question) -> bool:
        """Take the answer to one request; say whether the connection goes on after it."""
        while True:
            try:
                answer = stream.message(asked.method)
            except (AssertionError, OSError):
                return False
            except (ValueError, IndexError) as error:
                self._ledger.crossed.append(f"{self._number} asked {asked.target} and got what is no answer: {error}")
                return False
            self._ledger.take(self._number, asked.host, asked.target, answer)
            if answer.status >= 200:
                return answer.fields.get("connection") != "close"

    def _request(self) -> Question:
        """Return the next request."""
        self._count += 1
        self._ledger.asked += 1
        generator = self._generator
        host = f"{generator.choice(list(TUNNELS))}.localhost"
        target = f"/{self._number}/{self._count}"
        method = generator.choices(["GET", "HEAD", "POST", "PUT", "DELETE"], [50, 10, 20, 10, 10])[0]
        fields = f"X-Visitor: {self._number}\r\n"
        if method in ("POST", "PUT") or generator.random() < 0.05:
            body = self._body(host)
            if generator.random() < 0.5:
                return Question(host, method, target, request(host, target, method, fields, body))
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            head = request(host, target, method, f"{fields}Transfer-Encoding: chunked\r\n")
            return Question(host, method, target, head + chunks)
        if generator.random() < 0.05:
            target += f"?{'x' * wrong.LONGEST_TARGET}"
        return Question(host, method, target, request(host, target, method, fields))

    def _body(self, host: str) -> bytes:
        """Return a body: marks of its visitor, or what an upstream can take for a request, or for half of one."""
        if self._generator.random() < 0.5:
            return f"<{self._number}>".encode() * self._generator.choice([1, 10, 5000])
        hidden = request(host, f"/{self._number}/hidden", fields=f"X-Visitor: {self._number}\r\n")
        return hidden if self._generator.random() < 0.5 else hidden[:-2] + b"X-Rest: "

    def _connected(self) -> Stream:
        if self._stream is None:
            self._stream = Stream(connect(self._address))
        return self._stream

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@contextmanager
def running_site(ledger: Ledger, *, encrypted: bool) -> Iterator[Address]:
    """Run a server, and a client for each of the upstreams; yields where visitors connect.

    Where the clients encrypt, connections come back, and a visitor has some for itself.
    """
    with ExitStack() as stack:
        server = stack.enter_context(running_server())
        for name, upstream in TUNNELS.items():
            port = stack.enter_context(wrong.serving(upstream, ledger.see))
            stack.enter_context(running_client(frontend(server), port, name=name, insecure=not encrypted))
        yield frontend(server)


def visit(requests: int, *, encrypted: bool) -> Ledger:
    """Let all visitors ask for ``requests`` things together, and return what was seen."""
    ledger = Ledger()
    with running_site(ledger, encrypted=encrypted) as address:
        each = -(-requests // VISITORS)
        visiting = [gevent.spawn(Visitor(address, number, ledger, each).run) for number in range(1, VISITORS + 1)]
        try:
            gevent.joinall(visiting, raise_error=True)
        finally:
            gevent.killall(visiting)
    return ledger


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("encrypted", [False, True], ids=["in the clear", "over TLS"])
def test_nobody_gets_what_belongs_to_another(encrypted: bool) -> None:
    ledger = visit(10_000, encrypted=encrypted)
    assert ledger.crossed == []
    assert encrypted or not ledger.late, "in the clear no visitor has a connection of its own"
    # The rest was cut short by its visitor, or refused by the server where an upstream has said nothing that is HTTP.
    assert ledger.asked >= 10_000
    assert ledger.answered >= ledger.asked * 2 / 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_the_cure_much_would_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees what it is for: here every connection is lent whose answer has ended cleanly.

    Over TLS little would: there the client looks at its upstream as well, before each request.
    """
    monkeypatch.setattr(lending, "leaves_nothing", lambda *_: True)
    ledger = visit(2_000, encrypted=False)
    assert len(ledger.crossed) >= 10, "there were 170 in one run"
