"""The state tables of both versions: every version, state and message is listed or refused, and every walk ends."""

import itertools

import pytest

from localtunnel.errors import MessageError
from localtunnel.protocol.messages import (
    ASSIGNED,
    PING,
    PONG,
    RELEASE,
    Assignment,
    Challenge,
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    Failed,
    Got,
    Message,
    Notice,
    Proof,
    ProxyRequest,
    Ready,
    Replaced,
)
from localtunnel.protocol.states import TABLES, State, advance
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, VERSIONS, Version

EXAMPLES: list[Message] = [
    ControlRequest("demo", "c"),
    ControlReply("demo.localhost"),
    Challenge("r=x"),
    Proof("c=x"),
    ProxyRequest("demo", "c"),
    ASSIGNED,
    Assignment(1, "203.0.113.7:51234"),
    Got(1),
    Ready(1),
    Failed(1, "refused"),
    PING,
    PONG,
    Concurrency(5),
    Drain(30),
    Replaced("text"),
    Notice("text"),
    RELEASE,
    ErrorReply("exception", "m"),
]
BY_TYPE = {type(message).__name__: message for message in EXAMPLES}

BOTH = {
    ("START", "ControlRequest"): "REQUESTED",
    ("START", "ProxyRequest"): "PARKED",
    ("START", "ErrorReply"): "CLOSED",
    ("REQUESTED", "ControlReply"): "OPEN",
    ("REQUESTED", "ErrorReply"): "CLOSED",
    ("OPEN", "ErrorReply"): "CLOSED",
    ("PARKED", "ErrorReply"): "CLOSED",
}
EXPECTED = {
    LTP_0_2: {
        **BOTH,
        ("OPEN", "Ping"): "PINGED",
        ("PINGED", "Pong"): "OPEN",
        ("PINGED", "ErrorReply"): "CLOSED",
        ("PARKED", "Assigned"): "JOINED",
    },
    LTP_0_3: {
        **BOTH,
        ("REQUESTED", "Challenge"): "CHALLENGED",
        ("CHALLENGED", "Proof"): "PROVED",
        ("CHALLENGED", "ErrorReply"): "CLOSED",
        ("PROVED", "ControlReply"): "OPEN",
        ("PROVED", "ErrorReply"): "CLOSED",
        ("OPEN", "Ping"): "OPEN",
        ("OPEN", "Pong"): "OPEN",
        ("OPEN", "Concurrency"): "OPEN",
        ("OPEN", "Drain"): "OPEN",
        ("OPEN", "Notice"): "OPEN",
        ("OPEN", "Replaced"): "CLOSED",
        ("OPEN", "Release"): "CLOSED",
        ("PARKED", "Assignment"): "ASSIGNED",
        ("ASSIGNED", "Got"): "TAKEN",
        ("ASSIGNED", "Failed"): "CLOSED",
        ("TAKEN", "Ready"): "JOINED",
        ("TAKEN", "Failed"): "CLOSED",
        ("ENDED", "ProxyRequest"): "PARKED",
    },
}
"""Written down a second time, by hand: what PROTOCOL.md, section 5, allows. Everything else is refused."""

STATES = {
    LTP_0_2: set(State) - {State.CHALLENGED, State.PROVED, State.ASSIGNED, State.TAKEN, State.ENDED},
    LTP_0_3: set(State) - {State.PINGED},
}
"""Which states a version has."""

PAIRS = [
    pair for version in VERSIONS for pair in itertools.product([version], State, BY_TYPE) if pair[1] in STATES[version]
]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=str)


def test_every_type_of_message_has_its_example() -> None:
    assert {type(message) for message in EXAMPLES} == set(Message.__args__)


@pytest.mark.parametrize(("version", "state", "name"), PAIRS, ids=lambda value: str(value))
def test_every_version_state_and_message(version: Version, state: State, name: str) -> None:
    following = EXPECTED[version].get((state.name, name))
    if following is None:
        with pytest.raises(MessageError, match=f"{name} may not come while the connection is {state.value}"):
            advance(version, state, BY_TYPE[name])
    else:
        assert advance(version, state, BY_TYPE[name]) is State[following]


@every_version
def test_every_state_of_a_version_has_its_row_and_no_other(version: Version) -> None:
    assert TABLES[version].keys() == STATES[version]


@every_version
def test_every_state_can_be_reached(version: Version) -> None:
    # The end marks of a stream, which are no messages, lead to ENDED.
    reached = {State.START, State.ENDED} & STATES[version]
    for _ in State:
        reached |= {following for state in reached for following in TABLES[version][state].values()}
    assert reached == STATES[version]


@every_version
def test_every_state_can_come_to_an_end(version: Version) -> None:
    ending = {State.JOINED, State.CLOSED}
    for _ in State:
        ending |= {state for state, row in TABLES[version].items() if ending & set(row.values())}
    assert ending == STATES[version]


def test_an_error_may_come_until_the_connection_is_assigned() -> None:
    without = {
        version: {state for state, row in TABLES[version].items() if ErrorReply not in row} for version in VERSIONS
    }
    assert without == {
        LTP_0_2: {State.JOINED, State.CLOSED},
        LTP_0_3: {State.ASSIGNED, State.TAKEN, State.JOINED, State.ENDED, State.CLOSED},
    }


@every_version
@pytest.mark.parametrize("state", [State.JOINED, State.CLOSED])
def test_nothing_follows_a_last_state(version: Version, state: State) -> None:
    assert not TABLES[version][state]


OPENING: list[Message] = [ControlRequest("demo", "c"), ControlReply("h")]
PARKING: list[Message] = [ProxyRequest("demo", "c"), Assignment(1, "203.0.113.7:51234")]

WALKS: list[tuple[Version, list[Message], State]] = [
    (LTP_0_2, [*OPENING, PING, PONG, PING, PONG, PING, ErrorReply("exception")], State.CLOSED),
    (LTP_0_2, [ProxyRequest("demo", "c"), ASSIGNED], State.JOINED),
    (LTP_0_3, [*OPENING, PING, PING, PONG, PONG, Concurrency(9), Notice("n"), Drain(3), Concurrency(4)], State.OPEN),
    (LTP_0_3, [*OPENING, PONG, RELEASE], State.CLOSED),
    (LTP_0_3, [OPENING[0], Challenge("r=x"), Proof("c=x"), OPENING[1], PING], State.OPEN),
    (LTP_0_3, [OPENING[0], Challenge("r=x"), Proof("c=x"), ErrorReply("auth_failed")], State.CLOSED),
    (LTP_0_3, [*OPENING, Replaced("text")], State.CLOSED),
    (LTP_0_3, [*PARKING, Got(1), Ready(1)], State.JOINED),
    (LTP_0_3, [*PARKING, Got(1), Failed(1, "refused")], State.CLOSED),
    (LTP_0_3, [*PARKING, Failed(1, "seen")], State.CLOSED),
]


def test_what_comes_back_begins_again_without_a_header() -> None:
    state = State.ENDED
    for message in (*PARKING, Got(1), Ready(1)):
        state = advance(LTP_0_3, state, message)
    assert state is State.JOINED


@pytest.mark.parametrize(("version", "walk", "end"), WALKS)
def test_whole_connections(version: Version, walk: list[Message], end: State) -> None:
    state = State.START
    for message in walk:
        state = advance(version, state, message)
    assert state is end
