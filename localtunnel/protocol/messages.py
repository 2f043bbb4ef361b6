"""The typed messages of LTP and their JSON (PROTOCOL.md, "Messages").

A request and its reply use the same key (``control``, ``proxy``), so what an object means depends on who sent it:
``decode_from_client`` is for servers, ``decode_from_server`` for clients. Unknown fields are ignored, unknown messages
refused with MessageError. ``encode`` makes the whole frame, ready to be sent in one piece.
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from localtunnel.errors import FrameError, MessageError
from localtunnel.protocol.framing import check_depth, encode_frame
from localtunnel.protocol.limits import MAX_CLIENT_ID, MAX_TEXT

ClientId = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
"""Who a client is, as LTP/0.2 says it: ``user@host;System``, and here an instance behind a further semicolon."""


Text = Annotated[str, Meta(max_length=MAX_TEXT)]
"""Any other text of a request."""


class ControlRequest(Struct, frozen=True):
    """The client asks for a tunnel. ``protect`` is ``user:password`` for visitors, ``domain`` a host of its own."""

    name: Text
    client: ClientId
    protect: Text | None = None
    domain: Text | None = None


class ControlReply(Struct, frozen=True):
    """The server opened the tunnel: visitors reach it at ``host``; ``concurrency`` is the pool's size."""

    host: str
    concurrency: int = 1
    banner: str = ""


class ProxyRequest(Struct, frozen=True):
    """The client offers this connection to the pool of the tunnel ``name``."""

    name: Text
    client: ClientId


class Assigned(Struct, frozen=True):
    """The server bound this proxy connection to a visitor. From the next byte on it is the visitor's stream."""


class Ping(Struct, frozen=True):
    """The server asks whether the client is alive."""


class Pong(Struct, frozen=True):
    """The client is alive."""


class ErrorReply(Struct, frozen=True):
    """The server refuses or fails, and closes. ``error`` is one of the codes below, ``message`` a sentence."""

    error: str
    message: str = ""


UNAVAILABLE: Final = "unavailable"
EXPIRED: Final = "expired"
EXCEPTION: Final = "exception"
VERSION: Final = "version"

FromClient = ControlRequest | ProxyRequest | Pong
FromServer = ControlReply | Assigned | Ping | ErrorReply
Message = FromClient | FromServer

PING: Final = Ping()
PONG: Final = Pong()
ASSIGNED: Final = Assigned()


class _ClientEnvelope(Struct):
    control: ControlRequest | str | UnsetType = UNSET
    proxy: ProxyRequest | UnsetType = UNSET


class _ServerEnvelope(Struct):
    control: ControlReply | str | UnsetType = UNSET
    proxy: bool | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str = ""


_client_decoder = msgspec.json.Decoder(_ClientEnvelope)
_server_decoder = msgspec.json.Decoder(_ServerEnvelope)


def decode_from_client(payload: bytes) -> FromClient:
    """Return the message that a client sent. Raises FrameError for bad JSON, MessageError for what is no message."""
    envelope = _decode(_client_decoder, payload)
    match envelope:
        case _ClientEnvelope(control=ControlRequest() as message, proxy=msgspec.UNSET):
            return message
        case _ClientEnvelope(control=msgspec.UNSET, proxy=ProxyRequest() as message):
            return message
        case _ClientEnvelope(control="pong", proxy=msgspec.UNSET):
            return PONG
    raise MessageError("The object is none of the messages that a client may send.")


def decode_from_server(payload: bytes) -> FromServer:
    """Return the message that a server sent. Raises FrameError for bad JSON, MessageError for what is no message."""
    envelope = _decode(_server_decoder, payload)
    match envelope:
        case _ServerEnvelope(error=str() as error, message=text):
            return ErrorReply(error, text)
        case _ServerEnvelope(control=msgspec.UNSET, proxy=True):
            return ASSIGNED
        case _ServerEnvelope(control=ControlReply() as message, proxy=msgspec.UNSET):
            return message
        case _ServerEnvelope(control="ping", proxy=msgspec.UNSET):
            return PING
    raise MessageError("The object is none of the messages that a server may send.")


def encode(message: Message) -> bytes:
    """Return the frame that carries ``message``."""
    return encode_frame(msgspec.json.encode(_wire_form(message)))


def _wire_form(message: Message) -> object:
    match message:
        case ControlRequest() | ControlReply():
            return {"control": _without_none(message)}
        case ProxyRequest():
            return {"proxy": message}
        case Assigned():
            return {"proxy": True}
        case Ping():
            return {"control": "ping"}
        case Pong():
            return {"control": "pong"}
        case ErrorReply():
            return message


def _without_none(message: Struct) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(message).items() if value is not None}


def _decode(decoder: msgspec.json.Decoder, payload: bytes) -> object:  # type: ignore[type-arg]
    check_depth(payload)
    try:
        # As bytes, msgspec would not look at the encoding of unknown fields.
        return decoder.decode(payload.decode("utf-8"))
    except msgspec.ValidationError as error:
        raise MessageError(f"The message has the wrong shape: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"The payload is not a UTF-8 JSON object: {error}.") from error
