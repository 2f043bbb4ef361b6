"""Which message may come when, on both connection types: two tables that server and client share.

A message's type tells who sends it, so one table serves both sides: each side advances its state for every message,
sent or received, and a message that the table does not have is refused with MessageError.
"""

import enum

from localtunnel.errors import MessageError
from localtunnel.protocol.messages import (
    Assigned,
    ControlReply,
    ControlRequest,
    ErrorReply,
    Message,
    Ping,
    Pong,
    ProxyRequest,
)


class State(enum.Enum):
    """Where a connection stands: the first message makes it a control connection or a proxy connection."""

    START = "new"

    REQUESTED = "requested"
    OPEN = "open"
    PINGED = "pinged"

    PARKED = "parked"
    JOINED = "joined"

    CLOSED = "closed"


Table = dict[State, dict[type, State]]

START: Table = {
    State.START: {ControlRequest: State.REQUESTED, ProxyRequest: State.PARKED, ErrorReply: State.CLOSED},
}
"""The first message is a request; a server that cannot read it may answer an error."""

CONTROL: Table = {
    State.REQUESTED: {ControlReply: State.OPEN, ErrorReply: State.CLOSED},
    State.OPEN: {Ping: State.PINGED, ErrorReply: State.CLOSED},
    State.PINGED: {Pong: State.OPEN, ErrorReply: State.CLOSED},
}
"""The control connection: a request, a reply, then pings and pongs in turn; the server may end it with an error."""

PROXY: Table = {
    State.PARKED: {Assigned: State.JOINED, ErrorReply: State.CLOSED},
    State.JOINED: {},
}
"""The proxy connection: a request, silence while it is parked, the assignment, and then no message ever again."""

TABLE: Table = {**START, **CONTROL, **PROXY, State.CLOSED: {}}


def advance(state: State, message: Message) -> State:
    """Return the state after ``message``. Raises MessageError when it may not come in ``state``."""
    following = TABLE[state].get(type(message))
    if following is None:
        raise MessageError(f"{type(message).__name__} may not come while the connection is {state.value}.")
    return following
