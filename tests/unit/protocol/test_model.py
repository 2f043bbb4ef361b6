"""Both sides' state machines against each other, over a network that loses, repeats, reorders and cuts.

``Conversation`` has two real channels that say whatever they may. ``Deliveries`` has the server's real assigning and
the client's real memory of ids, on real sockets with a network between them that dies in every way.
"""

from collections import Counter
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import gevent
from harness.leaks import nothing_left_over
from harness.protocol_pair import OTHER, Pair
from harness.sockets import pair
from harness.waiting import wait_until
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localtunnel import ClientConfig
from localtunnel.client.sessions.session import Session
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visits import Visits
from localtunnel.errors import ConnectionClosed, LocaltunnelError, ProtocolError, VisitorError
from localtunnel.net import closing
from localtunnel.net.address import parse_target
from localtunnel.net.channel import client_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.protocol import limits
from localtunnel.protocol.messages import Assignment, ControlRequest, Failed, Got, Ready
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.protocol.wire.codec import encode
from localtunnel.server.tunnels.assigning import Assigning03
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.visitors.stream_join import StreamJoin

# Anything at any time.


class Conversation(RuleBasedStateMachine):
    """Two sides that say whatever they may, over a network that does whatever it likes."""

    @initialize(version=st.sampled_from([LTP_0_2, LTP_0_3]))
    def begin(self, version: Version) -> None:
        self.pair = Pair(version)
        self.faulty = False

    @rule(side=st.sampled_from(["client", "server"]), data=st.data())
    def say(self, side: str, data: st.DataObject) -> None:
        choice = self.pair.may_say(side)
        # A server has nobody to talk to before the client has begun.
        if choice and (side == "client" or self.pair.state("client") is not State.START):
            self.pair.say(side, data.draw(st.sampled_from(choice)))

    @rule(side=st.sampled_from(["client", "server"]), size=st.integers(1, 300))
    def arrive(self, side: str, size: int) -> None:
        self.pair.streams[side].arrive(size)
        self.pair.listen(OTHER[side])

    @precondition(lambda self: any(stream.flying for stream in self.pair.streams.values()))
    @rule(data=st.data(), fault=st.sampled_from(["lost", "twice", "swapped", "cut short"]))
    def fault(self, data: st.DataObject, fault: str) -> None:
        flying = data.draw(st.sampled_from([s.flying for s in self.pair.streams.values() if s.flying]))
        place = data.draw(st.integers(0, len(flying) - 1))
        self.faulty = True
        if fault == "lost":
            del flying[place]
        elif fault == "twice":
            flying.insert(place, flying[place])
        elif fault == "swapped":
            flying[place], flying[place - 1] = flying[place - 1], flying[place]
        else:
            flying[place] = flying[place][: data.draw(st.integers(0, len(flying[place])))]

    @rule(side=st.sampled_from(["client", "server"]), end=st.sampled_from(["closed", "reset"]))
    def end(self, side: str, end: str) -> None:
        self.faulty = True
        stream = self.pair.streams[side]
        stream.flying.clear()
        stream.end = end
        self.pair.listen(OTHER[side])

    @invariant()
    def only_the_documented_ends(self) -> None:
        for error in self.pair.errors.values():
            assert self.faulty, error
            assert isinstance(error, ProtocolError | ConnectionClosed)

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        for side, stream in self.pair.streams.items():
            stream.arrive(1 << 30)
            self.pair.listen(OTHER[side])
        self.only_the_documented_ends()
        if not self.faulty:
            assert self.pair.state("client") is self.pair.state("server")


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=300, stateful_step_count=30)


# Delivering visitors.

GOT_TIMEOUT = 0.004
PATIENCE = 0.12
"""Seconds that a visitor of the model waits for ``got``, and a server for ``ready``: as a hub can keep it."""


class Wire:
    """A proxy connection whose two halves meet in the test, which carries the bytes across, or does not."""

    def __init__(self) -> None:
        self.server, server_wire = pair()
        client, client_wire = pair()
        self.wires = {"server": server_wire, "client": client_wire}
        """By who sends."""
        self.held = {"server": b"", "client": b""}
        self.channel = client_channel(client, LTP_0_3, "the server")
        self.channel.state = State.PARKED
        self.dead = False
        for wire in self.wires.values():
            wire.settimeout(0)

    def carry(self, side: str, size: int) -> None:
        """Bring ``size`` bytes at most from ``side`` to the other, and its end when all have been brought."""
        if self.dead:
            return
        ended = False
        try:
            data = self.wires[side].recv(65536)
            ended = not data
            self.held[side] += data
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        with suppress(OSError):
            self.wires[OTHER[side]].send(self.held[side][:size])
        self.held[side] = self.held[side][size:]
        if ended and not self.held[side]:
            self.cut()

    def cut(self) -> None:
        self.dead = True
        for wire in self.wires.values():
            closing.reset(wire)


class Deliveries(RuleBasedStateMachine):
    """Visitors, a pool, and a client: each visitor is delivered at most once and comes to an end."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(nothing_left_over())
        self.stack.enter_context(patch.multiple(limits, GOT_TIMEOUT=GOT_TIMEOUT, READY_TIMEOUT=PATIENCE))
        self.visits = Visits(Upstream(parse_target(1), 1.0), lambda event: None)
        visits: Any = SimpleNamespace(begin=self.begin_visit, refuse_seen=self.visits.refuse_seen)
        link: Any = SimpleNamespace()
        request = ControlRequest("demo", "c")
        self.session = Session(ClientConfig(), LTP_0_3, request, link, visits, lambda event: None)
        self.pool = Pool(100)
        self.wires: list[Wire] = []
        self.joins: list[StreamJoin] = []
        self.visitors: dict[int, Any] = {}
        self.refused: Counter[int] = Counter()
        self.begun: Counter[int] = Counter()
        self.dialling: list[tuple[Any, int]] = []
        self.taken: list[Any] = []

    @precondition(lambda self: len(self.wires) < 10)
    @rule(count=st.integers(1, 4))
    def park(self, count: int) -> None:
        for _ in range(count):
            wire = Wire()
            self.wires.append(wire)
            self.pool.park(SocketEnd(wire.server, "client"))

    @precondition(lambda self: len(self.joins) < 6)
    @rule()
    def visit(self) -> None:
        number = len(self.joins) + 1
        theirs, ours = pair()

        def refuse(error: VisitorError) -> None:
            self.refused[number] += 1
            theirs.close()

        join = StreamJoin(Assignment(number, "p", "tcp"), SocketEnd(theirs, "visitor"), b"ask %d;" % number, refuse)
        self.joins.append(join)
        self.visitors[number] = ours
        Assigning03(join, self.pool, Deadline(PATIENCE)).start()

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), side=st.sampled_from(["server", "client"]), size=st.integers(1, 200))
    def carry(self, data: st.DataObject, side: str, size: int) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        wire.carry(side, size)
        if side == "server":
            self.hear(wire)

    def hear(self, wire: Wire) -> None:
        """What the client does with a parked connection that has become readable."""
        channel = wire.channel
        if channel.sock.fileno() < 0 or channel.state is not State.PARKED:
            return
        try:
            message = channel.receive_ready()
        except LocaltunnelError:
            channel.close()
            return
        if isinstance(message, Assignment):
            sock, first = channel.detach()
            self.session._take(channel, sock, message, first, None, real_ip=False)

    def begin_visit(self, sock: Any, assignment: Assignment, first: bytes, give_back: None, *, real_ip: bool) -> None:
        """The client's ``Visits.begin``: a visitor is delivered."""
        self.begun[assignment.id] += 1
        assert (b"ask %d;" % assignment.id).startswith(first)
        self.taken.append(sock)
        with suppress(OSError):
            sock.send(encode(Got(assignment.id)))
        self.dialling.append((sock, assignment.id))

    @rule(place=st.integers(0, 5), connected=st.booleans())
    def upstream(self, place: int, connected: bool) -> None:
        # Who dials depends on the hub; what hypothesis draws must not.
        if place >= len(self.dialling):
            return
        sock, number = self.dialling.pop(place)
        answer = encode(Ready(number)) + b"answer %d;" % number if connected else encode(Failed(number, "refused"))
        with suppress(OSError):
            sock.send(answer)

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), how=st.sampled_from(["silent", "cut"]))
    def lose(self, data: st.DataObject, how: str) -> None:
        wire = data.draw(st.sampled_from(self.wires))
        if how == "silent":
            wire.dead = True
        else:
            wire.cut()
            self.hear(wire)

    @rule(misses=st.integers(0, 3))
    def time_passes(self, misses: int) -> None:
        gevent.sleep(GOT_TIMEOUT * 1.5 * misses)

    @invariant()
    def nobody_is_delivered_twice(self) -> None:
        gevent.sleep(0)
        if hasattr(self, "begun"):
            assert not [number for number, times in self.begun.items() if times > 1]
            assert not [number for number, times in self.refused.items() if times > 1]

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        try:
            self.everybody_comes_to_an_end()
        finally:
            for wire in self.wires:
                wire.cut()
                wire.channel.close()
            self.pool.close()
            for join in self.joins:
                join.abort("over")
            for sock in (*self.visitors.values(), *self.taken):
                sock.close()
            self.visits.end("over")
            self.stack.close()

    def everybody_comes_to_an_end(self) -> None:
        wait_until(lambda: not any(join.pending for join in self.joins), what="a visitor hangs")
        self.nobody_is_delivered_twice()
        for join in self.joins:
            number = join.assignment.id
            if self.refused[number]:
                continue
            assert self.begun[number] == 1
            self.visitors[number].settimeout(0)
            with suppress(BlockingIOError, ConnectionResetError):
                assert (b"answer %d;" % number).startswith(self.visitors[number].recv(100))


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=60, stateful_step_count=40)
