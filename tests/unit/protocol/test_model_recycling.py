"""Connections that come back, and clients that say anything at all on them.

The server's real assigning, relay and way back to the pool are on real TLS connections. Each visitor says one byte
only, and each upstream the same one as its visitor, so that a byte that has lost its way is seen at once.
"""

import json
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import gevent
from harness.leaks import nothing_left_over
from harness.sockets import pair
from harness.state import own_directory, put_server_key
from harness.tls import tls_pair
from harness.v3 import SESSION, failed, got, ready
from harness.vector_items import frame
from harness.waiting import wait_until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from localtunnel.errors import NameUnavailable, VisitorError
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.sockets import prepare
from localtunnel.net.tls.context import server_context
from localtunnel.protocol import limits
from localtunnel.protocol.messages import Assignment, ProxyRequest
from localtunnel.server.certificates.own import OWN_FILE
from localtunnel.server.limits.quotas import Quota
from localtunnel.server.tunnels import returns
from localtunnel.server.tunnels.assigning import Assigning03
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.tunnels.returns import Readmission, Returns
from localtunnel.server.visitors.stream_join import StreamJoin

PATIENCE = 60.0
"""No time-out is on trial here: a slow machine must not look like a silent peer."""

MARK = bytes(4)
REQUEST = frame(json.dumps({"proxy": {"name": "demo", "session": SESSION, "delivered": 0}}).encode())
FOREIGN = frame(json.dumps({"proxy": {"name": "demo", "session": "0" * 32, "delivered": 0}}).encode())

WORDS = ["answer", "failed", "chunk", "mark", "request", "foreign", "junk"]
"""What a client says. Behind ``mark`` every one but ``request`` is wrong: ``junk`` is the visitor's own byte, four
times, ``foreign`` a request with the session of somebody else."""


class Wire:
    """A proxy connection: the client's end of it, and what the client knows."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.number: int | None = None
        """The visitor that was assigned last; None before the first."""
        self.state = "parked"
        """As the client has it: ``parked``, ``assigned``, ``joined``, ``marked`` once it has sent its mark."""
        self.is_marked = False
        """Whether the server's mark has come."""
        self.fate: str | None = None
        """What must become of it: ``over`` or ``refused``; ``any`` where that depends on what the server saw first."""
        self.is_over = False
        self.error: str | None = None
        self._in_stream = False
        self._received = b""

    def hear(self) -> list[int]:
        """Read what has come; return the numbers of the visitors that were assigned."""
        try:
            while not self.is_over:
                data = self.sock.recv(65536)
                self.is_over = not data
                self._received += data
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True
        assigned = []
        while (piece := self._next()) is not None:
            if self._in_stream:
                assert set(piece) <= {self.number}, f"visitor {self.number} has bytes of others: {piece!r}"
                self.is_marked = not piece
                self._in_stream = bool(piece)
            else:
                message = json.loads(piece)
                self.error = message.get("error")
                if self.error is None:
                    assert self.state == "parked" or self.fate is not None, f"assigned while {self.state}"
                    self.number = message["proxy"]["id"]
                    self.state, self.is_marked, self._in_stream = "assigned", False, True
                    assigned.append(self.number)
        return assigned

    def _next(self) -> bytes | None:
        size = int.from_bytes(self._received[:4], "big")
        if len(self._received) < 4 + size or len(self._received) < 4:
            return None
        piece, self._received = self._received[4 : 4 + size], self._received[4 + size :]
        return piece

    def close(self) -> None:
        closing.close(self.sock)


class Recycling(RuleBasedStateMachine):
    """One tunnel, a client that breaks every rule, and visitors who must not notice those of others."""

    @initialize(recycles=st.sampled_from([True, True, False]))
    def begin(self, recycles: bool) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(nothing_left_over())
        self.stack.enter_context(patch.multiple(limits, GOT_TIMEOUT=PATIENCE, READY_TIMEOUT=PATIENCE))
        self.stack.enter_context(patch.multiple(returns, MARK_TIMEOUT=PATIENCE, ENDED_TIMEOUT=PATIENCE))
        path = put_server_key(self.stack.enter_context(own_directory())) / OWN_FILE
        self.context = server_context(path, path)
        self.pool = Pool(100)
        self.quota = Quota("connections")
        readmission = Readmission(self.quota.take, self.readmit)
        self.returns = Returns(readmission, self.pool.park) if recycles else None
        self.wires: list[Wire] = []
        self.joins: list[StreamJoin] = []
        self.visitors: list[Any] = []
        self.ended: set[int] = set()
        """Visitors that have ended their direction."""
        self.gone: set[int] = set()
        """Visitors whose connection is gone altogether."""
        self.assigned: dict[int, Wire] = {}
        """Who was assigned first to which connection."""
        self.open()

    def readmit(self, request: ProxyRequest, host: str) -> None:
        if request.session != SESSION:
            raise NameUnavailable("It belongs to another client.")

    @rule()
    def park(self) -> None:
        # How many are left depends on the hub; what hypothesis draws must not.
        if sum(not wire.is_over for wire in self.wires) < 4:
            self.open()

    def open(self) -> None:
        near, far = tls_pair(self.context)
        for sock in (near, far):
            prepare(sock, loopback=True)
        self.wires.append(Wire(far))
        self.pool.park(SocketEnd(near, "client"))

    @rule(size=st.integers(0, 3))
    def visit(self, size: int) -> None:
        number = len(self.joins) + 1
        theirs, ours = pair()
        for sock in (theirs, ours):
            prepare(sock, loopback=True)

        def refuse(error: VisitorError) -> None:
            self.gone.add(number)
            theirs.close()

        join = StreamJoin(Assignment(number, "p", "tcp"), SocketEnd(theirs, "visitor"), bytes([number]) * size, refuse)
        join.returns = self.returns
        self.joins.append(join)
        self.visitors.append(ours)
        Assigning03(join, self.pool, Deadline(PATIENCE)).start()

    @rule(
        size=st.integers(0, 3),
        steps=st.sampled_from(
            [
                ["answer", "end", "mark"],
                ["answer", "end", "mark"],
                ["end", "answer", "mark"],
                ["answer", "mark", "end"],
                ["answer", "mark"],
                ["answer", "end"],
                ["answer"],
                [],
            ]
        ),
        words=st.sampled_from([["request"], ["request"], ["foreign"]]) | st.lists(st.sampled_from(WORDS), max_size=4),
        cuts=st.lists(st.integers(1, 200), max_size=3),
        together=st.booleans(),
    )
    def serve(self, size: int, steps: list[str], words: list[str], cuts: list[int], together: bool) -> None:
        """Bring a visit to some point, and then say ``words``, in one piece with what came before or behind it."""
        self.visit(size)
        number = len(self.joins)
        self.nobody_gets_what_is_anothers()
        while number not in self.assigned and number not in self.gone:
            # Others may have waited.
            self.open()
            self.nobody_gets_what_is_anothers()
        if number in self.gone:
            return
        wire = self.assigned[number]
        for place, step in enumerate(steps, 1):
            if step == "end":
                self.end_visitor(number, "FIN")
            elif together and place == len(steps):
                words = [step, *words]
            else:
                self.say(wire, [step], [])
            self.nobody_gets_what_is_anothers()
        self.say(wire, words, cuts)

    @rule(place=st.integers(0, 3), size=st.integers(1, 3))
    def visitor_says(self, place: int, size: int) -> None:
        number = len(self.joins) - place
        if number > 0 and number not in self.ended:
            with suppress(OSError):
                self.visitors[number - 1].sendall(bytes([number]) * size)

    @rule(place=st.integers(0, 3), how=st.sampled_from(["FIN", "FIN", "FIN", "RST"]))
    def visitor_ends(self, place: int, how: str) -> None:
        self.end_visitor(len(self.joins) - place, how)

    def end_visitor(self, number: int, how: str) -> None:
        if number < 1 or number in self.gone:
            return
        self.ended.add(number)
        if how == "RST":
            self.gone.add(number)
            closing.reset(self.visitors[number - 1])
        else:
            with suppress(OSError):
                self.visitors[number - 1].shutdown(1)

    @rule(
        place=st.integers(0, 9),
        words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
        cuts=st.lists(st.integers(1, 200), max_size=3),
    )
    def client_says(self, place: int, words: list[str], cuts: list[int]) -> None:
        """Say ``words`` in one record, or in several that begin at ``cuts``."""
        self.say(self.wires[place % len(self.wires)], words, cuts)

    @rule(place=st.integers(0, 9))
    def client_goes_by_the_book(self, place: int) -> None:
        """Do what brings a connection forward, so that it comes back."""
        wire = self.wires[place % len(self.wires)]
        if wire.state in ("assigned", "joined"):
            self.say(wire, ["answer", "chunk"] if wire.state == "assigned" else ["mark"], [])
        elif wire.state == "marked" and wire.is_marked:
            self.say(wire, ["request"], [])

    def say(self, wire: Wire, words: list[str], cuts: list[int]) -> None:
        if wire.is_over or wire.fate in ("over", "refused") or not words:
            return
        data = b""
        for word in words:
            piece = self.bytes_of(wire, word)
            self.expect(wire, word, beside_mark=bool(data) and len(data) not in cuts)
            data += piece
        edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
        with suppress(OSError):
            for start, stop in pairwise(edges):
                wire.sock.send(data[start:stop])

    def bytes_of(self, wire: Wire, word: str) -> bytes:
        number = wire.number or 99
        if wire.state == "joined" and word != "mark":
            # Whatever it is, it is in the stream.
            word = "chunk"
        return {
            "answer": got(number) + ready(number),
            "failed": failed(number, "refused"),
            "chunk": frame(bytes([number]) * 2),
            "mark": MARK,
            "request": REQUEST,
            "foreign": FOREIGN,
            "junk": bytes([number]) * 4,
        }[word]

    def expect(self, wire: Wire, word: str, *, beside_mark: bool) -> None:
        """Note what ``word`` makes of ``wire``, by PROTOCOL.md, sections 5.2, 5.9 and 6.2."""
        if wire.state == "joined":
            wire.state = "marked" if word == "mark" else "joined"
        elif wire.state == "assigned" and word == "answer":
            wire.state = "joined"
        elif wire.state == "marked" and wire.is_marked and self.returns is not None and word == "request":
            wire.state = "parked"
        else:
            wire.fate = wire.fate or self.fate_of(wire, word, beside_mark=beside_mark)

    def fate_of(self, wire: Wire, word: str, *, beside_mark: bool) -> str:
        """Return what a word that may not come makes of ``wire``."""
        if wire.state != "marked" or self.returns is None or word not in ("request", "foreign"):
            return "over"
        if wire.is_marked:
            return "refused"
        # It cannot be for the stream that has ended, unless the server has sent its mark, which has not come.
        return "over" if beside_mark and wire.number not in self.ended else "any"

    # What must hold.

    @invariant()
    def nobody_gets_what_is_anothers(self) -> None:
        if not hasattr(self, "stack"):
            return
        gevent.idle()
        self.hear()

    def hear(self) -> None:
        for wire in self.wires:
            for number in wire.hear():
                first = self.assigned.setdefault(number, wire)
                if first is not wire:
                    # An assignment that is repeated: one of both is reset.
                    first.fate = wire.fate = "any"
        for number, visitor in enumerate(self.visitors, 1):
            with suppress(OSError):
                data = visitor.recv(65536)
                assert set(data) <= {number}, f"visitor {number} got {data!r}"

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        try:
            for number in range(1, len(self.visitors) + 1):
                self.end_visitor(number, "FIN")
            for wire in self.wires:
                wait_until(lambda wire=wire: self.has_its_end(wire), what=f"the end of a connection: {vars(wire)}")
            self.nobody_gets_what_is_anothers()
        finally:
            self.pool.close()
            for join in self.joins:
                join.abort("over")
            if self.returns is not None:
                self.returns.close()
            for wire in self.wires:
                wire.close()
            for visitor in self.visitors:
                visitor.close()
            self.stack.close()
        assert len(self.quota) == 0

    def has_its_end(self, wire: Wire) -> bool:
        """Say whether ``wire`` is what it must be, now that every visitor has ended."""
        self.hear()
        if wire.fate == "any" or wire.number in self.gone:
            return True
        if wire.fate == "refused":
            return wire.is_over and wire.error == "unavailable"
        if wire.fate == "over":
            return wire.is_over
        if wire.state == "joined":
            return wire.is_marked and not wire.is_over
        if wire.state == "marked":
            return wire.is_marked and wire.is_over is (self.returns is None)
        return not wire.is_over


TestRecycling = Recycling.TestCase
TestRecycling.settings = settings(max_examples=80, stateful_step_count=40)
