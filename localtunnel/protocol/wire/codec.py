"""The JSON of LTP's messages (PROTOCOL.md, "Messages").

A request and its reply use the same key (``control``, ``proxy``), so the meaning of an
object depends on its sender: servers call ``decode_from_client``, clients
``decode_from_server``. Unknown fields are ignored, and MessageError refuses unknown
messages. ``encode`` makes a whole frame.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from localtunnel.errors import FrameError, MessageError
from localtunnel.protocol.messages import (
    ASSIGNED,
    PING,
    PONG,
    RELEASE,
    Assigned,
    Assignment,
    Challenge,
    ClientId,
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    Failed,
    FromClient,
    FromServer,
    Got,
    Id,
    Message,
    Notice,
    Patterns,
    Ping,
    Pong,
    Proof,
    ProxyRequest,
    Ready,
    Release,
    Replaced,
    Scram,
    Text,
)
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.protocol.wire.framing import check_depth, encode_frame


class _ClientEnvelope(Struct):
    control: ControlRequest | str | UnsetType = UNSET
    proof: Scram | UnsetType = UNSET
    proxy: ProxyRequest | UnsetType = UNSET
    got: Id | UnsetType = UNSET
    ready: Id | UnsetType = UNSET
    failed: Failed | UnsetType = UNSET
    release: bool | UnsetType = UNSET


class _ServerEnvelope(Struct):
    control: ControlReply | str | UnsetType = UNSET
    challenge: Scram | UnsetType = UNSET
    proxy: Assignment | bool | UnsetType = UNSET
    concurrency: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    drain: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    replaced: str | UnsetType = UNSET
    notice: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str = ""
    names: Patterns | None = None


class _ControlRequest02(Struct):
    name: Text
    client: ClientId
    protect: Text | None = None
    domain: Text | None = None


class _ProxyRequest02(Struct):
    name: Text
    client: ClientId


class _ControlReply02(Struct):
    host: str
    concurrency: Annotated[int, Meta(ge=0)] = 1
    banner: str = ""


class _ClientEnvelope02(Struct):
    """The messages of LTP/0.2, where a field of LTP/0.3 is unknown and ignored,
    whatever its value."""

    control: _ControlRequest02 | str | UnsetType = UNSET
    proxy: _ProxyRequest02 | UnsetType = UNSET


class _ServerEnvelope02(Struct):
    control: _ControlReply02 | str | UnsetType = UNSET
    proxy: bool | UnsetType = UNSET
    error: str | UnsetType = UNSET
    message: str = ""


_client_decoders = {
    LTP_0_2: msgspec.json.Decoder(_ClientEnvelope02),
    LTP_0_3: msgspec.json.Decoder(_ClientEnvelope),
}
_server_decoders = {
    LTP_0_2: msgspec.json.Decoder(_ServerEnvelope02),
    LTP_0_3: msgspec.json.Decoder(_ServerEnvelope),
}

_HEARTBEATS: dict[object, Ping | Pong] = {"ping": PING, "pong": PONG}


def decode_from_client(payload: bytes, version: Version = LTP_0_3) -> FromClient:
    """Return the message that a client sent in ``version``.

    Raises FrameError for bad JSON, MessageError for an unknown message.
    """
    envelope = _decode(_client_decoders[version], payload)
    message: FromClient | None
    match _only_one(envelope):
        case "control", ControlRequest() as message:
            return message
        case "control", _ControlRequest02() as request:
            return ControlRequest(**msgspec.structs.asdict(request))
        case "proxy", _ProxyRequest02() as request:
            return ProxyRequest(request.name, request.client)
        case "proxy" | "failed", ProxyRequest() | Failed() as message:
            return message
        case "control", word if message := _HEARTBEATS.get(word):
            return message
        case "proof", text:
            return Proof(text)
        case "got", number:
            return Got(number)
        case "ready", number:
            return Ready(number)
        case "release", True:
            return RELEASE
    raise MessageError("The object is not a message that a client may send.")


def decode_from_server(payload: bytes, version: Version = LTP_0_3) -> FromServer:
    """Return the message that a server sent in ``version``.

    Raises FrameError for bad JSON, MessageError for an unknown message.
    """
    envelope = _decode(_server_decoders[version], payload)
    if envelope.error is not UNSET:
        return ErrorReply(envelope.error, envelope.message, getattr(envelope, "names", None))
    message: FromServer | None
    match _only_one(envelope):
        case "proxy", Assignment() as message:
            return message
        case "proxy", True:
            return ASSIGNED
        case "control", ControlReply() as message:
            return message
        case "control", _ControlReply02() as reply:
            return ControlReply(reply.host, reply.concurrency, reply.banner)
        case "control", word if message := _HEARTBEATS.get(word):
            return message
        case "challenge" | "concurrency" | "drain" | "replaced" | "notice" as key, value:
            message = _PLAIN[key](value)
            return message
    raise MessageError("The object is not a message that a server may send.")


_PLAIN: dict[str, Callable[[Any], FromServer]] = {
    "challenge": Challenge,
    "concurrency": Concurrency,
    "drain": Drain,
    "replaced": Replaced,
    "notice": Notice,
}


def check_fields(message: ControlRequest | ProxyRequest, version: Version) -> None:
    """Raise MessageError when ``message`` lacks a field that ``version`` demands."""
    if isinstance(message, ControlRequest):
        missing = "instance" if version.has_sessions and message.instance is None else None
    elif version.has_sessions:
        missing = "session" if message.session is None else None
    else:
        missing = "client" if message.client is None else None
    if missing:
        raise MessageError(f"The {type(message).__name__} lacks the field {missing!r}, which {version} demands.")


def encode(message: Message) -> bytes:
    """Return the frame that carries ``message``."""
    return encode_frame(msgspec.json.encode(_wire_form(message)))


def _wire_form(message: Message) -> object:
    match message:
        case ControlRequest() | ControlReply():
            return {"control": _without_none(message)}
        case ProxyRequest():
            return {"proxy": _without_none(message)}
        case Challenge(text):
            return {"challenge": text}
        case Proof(text):
            return {"proof": text}
        case Assigned():
            return {"proxy": True}
        case Assignment():
            return {"proxy": message}
        case Got(number):
            return {"got": number}
        case Ready(number):
            return {"ready": number}
        case Failed():
            return {"failed": message}
        case Ping():
            return {"control": "ping"}
        case Pong():
            return {"control": "pong"}
        case Concurrency(size):
            return {"concurrency": size}
        case Drain(seconds):
            return {"drain": seconds}
        case Replaced(text):
            return {"replaced": text}
        case Notice(text):
            return {"notice": text}
        case Release():
            return {"release": True}
        case ErrorReply():
            return _without_none(message)


def _without_none(message: Struct) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(message).items() if value is not None}


_BESIDE_ERROR = ("message", "names")


def _only_one(envelope: Struct) -> tuple[str, Any]:
    """Return the one message key of ``envelope``, with its value, or an empty key if
    there are none or several."""
    found = [(key, value) for key in envelope.__struct_fields__ if (value := getattr(envelope, key)) is not UNSET]
    found = [pair for pair in found if pair[0] not in _BESIDE_ERROR]
    return found[0] if len(found) == 1 else ("", None)


def _decode(decoder: Any, payload: bytes) -> Any:
    check_depth(payload)
    try:
        # As bytes, msgspec would not look at the encoding of unknown fields.
        return decoder.decode(payload.decode("utf-8"))
    except msgspec.ValidationError as error:
        raise MessageError(f"The message has the wrong shape: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"The payload is not a UTF-8 JSON object: {error}.") from error
