"""The state tables: every pair of state and message is listed or refused, and every walk through them ends."""

import itertools

import pytest

from localtunnel.errors import MessageError
from localtunnel.protocol.messages import (
    ASSIGNED,
    PING,
    PONG,
    ControlReply,
    ControlRequest,
    ErrorReply,
    Message,
    ProxyRequest,
)
from localtunnel.protocol.states import TABLE, State, advance

EXAMPLES: list[Message] = [
    ControlRequest("demo", "c"),
    ControlReply("demo.localhost"),
    ProxyRequest("demo", "c"),
    ASSIGNED,
    PING,
    PONG,
    ErrorReply("exception", "m"),
]
BY_TYPE = {type(message).__name__: message for message in EXAMPLES}

EXPECTED = {
    ("START", "ControlRequest"): "REQUESTED",
    ("START", "ProxyRequest"): "PARKED",
    ("START", "ErrorReply"): "CLOSED",
    ("REQUESTED", "ControlReply"): "OPEN",
    ("REQUESTED", "ErrorReply"): "CLOSED",
    ("OPEN", "Ping"): "PINGED",
    ("OPEN", "ErrorReply"): "CLOSED",
    ("PINGED", "Pong"): "OPEN",
    ("PINGED", "ErrorReply"): "CLOSED",
    ("PARKED", "Assigned"): "JOINED",
    ("PARKED", "ErrorReply"): "CLOSED",
}
"""Written down a second time, by hand: what PROTOCOL.md, section 5, allows. Everything else is refused."""


@pytest.mark.parametrize(("state", "name"), list(itertools.product(State, BY_TYPE)), ids=lambda value: str(value))
def test_every_pair_of_state_and_message(state: State, name: str) -> None:
    following = EXPECTED.get((state.name, name))
    if following is None:
        with pytest.raises(MessageError, match=f"{name} may not come while the connection is {state.value}"):
            advance(state, BY_TYPE[name])
    else:
        assert advance(state, BY_TYPE[name]) is State[following]


def test_every_state_has_its_row() -> None:
    assert TABLE.keys() == set(State)


def test_every_state_can_be_reached() -> None:
    reached = {State.START}
    for _ in State:
        reached |= {following for state in reached for following in TABLE[state].values()}
    assert reached == set(State)


def test_every_state_but_the_two_last_can_end_in_an_error() -> None:
    assert {state for state, row in TABLE.items() if ErrorReply not in row} == {State.JOINED, State.CLOSED}


@pytest.mark.parametrize("state", [State.JOINED, State.CLOSED])
def test_nothing_follows_a_last_state(state: State) -> None:
    assert not TABLE[state]


def test_a_whole_control_connection() -> None:
    state = State.START
    walk = [ControlRequest("demo", "c"), ControlReply("h"), PING, PONG, PING, PONG, PING, ErrorReply("exception")]
    for message in walk:
        state = advance(state, message)
    assert state is State.CLOSED


def test_a_whole_proxy_connection() -> None:
    assert advance(advance(State.START, ProxyRequest("demo", "c")), ASSIGNED) is State.JOINED
