"""Every handshake with one fault: each message lost, twice, out of order, and the connection cut at every byte.

Whatever the network does to them, each side ends as PROTOCOL.md, section 9, has it: it waits, or it refuses a message,
or it finds the connection closed.
"""

import pytest
from harness.protocol_pair import ASSIGNMENT, CONTROL, ERROR, OTHER, PROXY, REPLY, Pair

from localtunnel.errors import ConnectionClosed, MessageError, ProtocolError
from localtunnel.protocol.messages import (
    ASSIGNED,
    PING,
    PONG,
    RELEASE,
    Concurrency,
    Drain,
    Failed,
    Got,
    Message,
    Notice,
    Ready,
    Replaced,
)
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version

Walk = list[tuple[str, Message]]
OPENING: Walk = [("client", CONTROL), ("server", REPLY), ("server", PING), ("client", PONG)]
PARKED: Walk = [("client", PROXY), ("server", ASSIGNMENT)]

WALKS: dict[str, tuple[Version, Walk]] = {
    "control-0.2": (LTP_0_2, [*OPENING, ("server", PING), ("client", PONG), ("server", ERROR)]),
    "proxy-0.2": (LTP_0_2, [("client", PROXY), ("server", ASSIGNED)]),
    "control-0.3": (LTP_0_3, [*OPENING, ("client", PING), ("server", PONG), ("server", Concurrency(9))]),
    "release-0.3": (LTP_0_3, [*OPENING, ("server", Notice("n")), ("server", Drain(3)), ("client", RELEASE)]),
    "replaced-0.3": (LTP_0_3, [*OPENING, ("server", Replaced("r"))]),
    "proxy-0.3": (LTP_0_3, [*PARKED, ("client", Got(7)), ("client", Ready(7))]),
    "failed-0.3": (LTP_0_3, [*PARKED, ("client", Got(7)), ("client", Failed(7, "timeout"))]),
    "seen-0.3": (LTP_0_3, [*PARKED, ("client", Failed(7, "seen"))]),
}
every_walk = pytest.mark.parametrize(("version", "walk"), WALKS.values(), ids=WALKS.keys())
STEPS = [(name, step) for name, (_, walk) in WALKS.items() for step in range(len(walk))]
every_step = pytest.mark.parametrize(("name", "step"), STEPS)
HARMLESS = (type(PING), type(PONG), Concurrency, Drain, Notice)
"""What LTP/0.3 allows at any time, and so also twice."""


def play(pair: Pair, walk: Walk) -> None:
    """Say and hear every step, in order."""
    for side, message in walk:
        pair.say(side, message)
        pair.streams[side].arrive(1 << 20)
        pair.listen(OTHER[side])


@every_walk
def test_every_walk_in_order(version: Version, walk: Walk) -> None:
    pair = Pair(version)
    play(pair, walk)
    assert not pair.errors
    assert pair.state("client") is pair.state("server")


@every_walk
@pytest.mark.parametrize("end", ["closed", "reset"])
def test_every_walk_cut_at_every_byte(version: Version, walk: Walk, end: str) -> None:
    for step, (side, message) in enumerate(walk):
        size = 1
        while True:
            pair = Pair(version)
            play(pair, walk[:step])
            pair.say(side, message)
            stream, hearer = pair.streams[side], OTHER[side]
            if size > sum(map(len, stream.flying)):
                break
            before, heard = pair.state(hearer), len(pair.received[hearer])
            stream.arrive(size - 1)
            stream.flying.clear()
            stream.end = end
            pair.listen(hearer)
            assert isinstance(pair.errors[hearer], ConnectionClosed)
            assert pair.state(hearer) is before
            assert len(pair.received[hearer]) == heard
            size += 1


@every_step
def test_every_message_lost(name: str, step: int) -> None:
    """Nobody answers what has not come; what its sender says next is refused, or harmless."""
    version, walk = WALKS[name]
    pair = Pair(version)
    play(pair, walk[:step])
    side, message = walk[step]
    pair.say(side, message)
    pair.streams[side].flying.clear()
    for next_side, following in walk[step + 1 :]:
        if next_side != side or type(following) not in {type(each) for each in pair.may_say(side)}:
            break
        play(pair, [(side, following)])
        if pair.errors:
            break
    assert all(isinstance(error, ProtocolError) for error in pair.errors.values())
    assert not pair.errors.keys() - {OTHER[side]}


@every_step
def test_every_message_twice(name: str, step: int) -> None:
    version, walk = WALKS[name]
    pair = Pair(version)
    play(pair, walk[:step])
    side, message = walk[step]
    hearer = OTHER[side]
    pair.say(side, message)
    pair.streams[side].flying *= 2
    pair.streams[side].arrive(1 << 20)
    pair.listen(hearer)
    heard = [each for each in pair.received[hearer] if each == message]
    if pair.state(hearer) in (State.CLOSED, State.JOINED):
        # It has left the protocol: what follows is a stream, or is not read.
        assert len(heard) == 1
        assert not pair.errors
    elif version == LTP_0_3 and isinstance(message, HARMLESS):
        assert not pair.errors
    else:
        assert isinstance(pair.errors[hearer], ProtocolError)


@every_walk
def test_every_two_messages_in_the_wrong_order(version: Version, walk: Walk) -> None:
    for step in range(len(walk) - 1):
        (side, first), (next_side, second) = walk[step : step + 2]
        if side != next_side:
            continue
        pair = Pair(version)
        play(pair, walk[:step])
        pair.say(side, first)
        pair.say(side, second)
        pair.streams[side].flying.reverse()
        pair.streams[side].arrive(1 << 20)
        pair.listen(OTHER[side])
        if isinstance(second, Failed):
            assert pair.state("server") is State.CLOSED
        elif version == LTP_0_3 and isinstance(first, HARMLESS):
            assert not pair.errors
        else:
            assert isinstance(pair.errors[OTHER[side]], MessageError)
