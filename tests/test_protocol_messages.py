"""The typed messages: what each looks like on the wire, what is refused, and that nothing else can come out."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_items import load, to_bytes

from localtunnel.errors import FrameError, MessageError, ProtocolError
from localtunnel.protocol import messages
from localtunnel.protocol.framing import Decoder
from localtunnel.protocol.limits import MAX_CLIENT_ID
from localtunnel.protocol.messages import (
    Assigned,
    ControlReply,
    ControlRequest,
    ErrorReply,
    Message,
    Ping,
    Pong,
    ProxyRequest,
    decode_from_client,
    decode_from_server,
    encode,
)

TYPES: dict[str, type[msgspec.Struct]] = {
    "control_request": ControlRequest,
    "control_reply": ControlReply,
    "proxy_request": ProxyRequest,
    "assignment": Assigned,
    "ping": Ping,
    "pong": Pong,
    "error": ErrorReply,
}
ERRORS = {"frame": FrameError, "message": MessageError}
DECODERS = {"client": decode_from_client, "server": decode_from_server}

EVERY_MESSAGE = [
    (ControlRequest("demo", "ann@laptop;Linux"), {"control": {"name": "demo", "client": "ann@laptop;Linux"}}),
    (
        ControlRequest("demo", "c", "ann:secret", "www.example.org"),
        {"control": {"name": "demo", "client": "c", "protect": "ann:secret", "domain": "www.example.org"}},
    ),
    (
        ControlReply("demo.example.com:8000", 3, "Welcome."),
        {"control": {"host": "demo.example.com:8000", "concurrency": 3, "banner": "Welcome."}},
    ),
    (ControlReply("h"), {"control": {"host": "h", "concurrency": 1, "banner": ""}}),
    (ProxyRequest("demo", "c"), {"proxy": {"name": "demo", "client": "c"}}),
    (Assigned(), {"proxy": True}),
    (Ping(), {"control": "ping"}),
    (Pong(), {"control": "pong"}),
    (ErrorReply("unavailable", "Taken."), {"error": "unavailable", "message": "Taken."}),
    (ErrorReply("expired"), {"error": "expired", "message": ""}),
]


def decode(message: Message, payload: bytes) -> Message:
    from_client = isinstance(message, ControlRequest | ProxyRequest | Pong)
    return decode_from_client(payload) if from_client else decode_from_server(payload)


@pytest.mark.parametrize("case", load("messages.json"))
def test_vectors(case: dict[str, Any]) -> None:
    decoder, payload = DECODERS[case["from"]], to_bytes(case["payload"])
    if "refused" in case:
        with pytest.raises(ERRORS[case["refused"]]):
            decoder(payload)
    else:
        fields = dict(case["message"])
        expected = TYPES[fields.pop("type")](**fields)
        assert decoder(payload) == expected


@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_every_message_on_the_wire(message: Message, wire: object) -> None:
    data = encode(message)
    assert json.loads(data[4:]) == wire
    assert int.from_bytes(data[:4], "big") == len(data) - 4


@pytest.mark.parametrize("trailing", [b"", b"\0\0\0\2{}", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_every_message_cut_at_every_byte(message: Message, wire: object, trailing: bytes) -> None:
    data = encode(message) + trailing
    for place in range(len(data)):
        decoder = Decoder(header=False)
        decoder.feed(data[:place])
        payload = decoder.next_payload()
        decoder.feed(data[place:])
        payload = payload or decoder.next_payload()
        assert payload is not None
        assert decode(message, payload) == message
        assert decoder.take_rest() == trailing


@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_every_message_byte_by_byte(message: Message, wire: object) -> None:
    decoder = Decoder(header=False)
    data = encode(message)
    for byte in data[:-1]:
        decoder.feed(bytes([byte]))
        assert decoder.next_payload() is None
    decoder.feed(data[-1:])
    payload = decoder.next_payload()
    assert payload is not None
    assert decode(message, payload) == message


@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_every_message_cut_short_is_refused(message: Message, wire: object) -> None:
    payload = encode(message)[4:]
    for size in range(len(payload)):
        with pytest.raises(FrameError):
            decode(message, payload[:size])


@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_no_message_may_come_from_the_other_side(message: Message, wire: object) -> None:
    from_client = isinstance(message, ControlRequest | ProxyRequest | Pong)
    decoder = decode_from_server if from_client else decode_from_client
    with pytest.raises(MessageError):
        decoder(encode(message)[4:])


def test_every_type_of_message_is_covered() -> None:
    assert {type(message) for message, _ in EVERY_MESSAGE} == set(TYPES.values())
    assert {case.values[0].get("message", {}).get("type") for case in load("messages.json")} == {*TYPES, None}


def test_error_codes() -> None:
    codes = messages.UNAVAILABLE, messages.EXPIRED, messages.EXCEPTION, messages.VERSION
    assert codes == ("unavailable", "expired", "exception", "version")


names = st.text(st.characters(codec="utf-8"), max_size=255)
clients = st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_CLIENT_ID)
texts = st.text(st.characters(codec="utf-8"), max_size=300)
options = st.none() | names


@given(
    st.one_of(
        st.builds(ControlRequest, names, clients, options, options),
        st.builds(ControlReply, texts, st.integers(-(2**63), 2**64 - 1), texts),
        st.builds(ProxyRequest, names, clients),
        st.builds(ErrorReply, texts, texts),
    )
)
def test_what_is_encoded_can_be_decoded(message: Message) -> None:
    assert decode(message, encode(message)[4:]) == message


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_protocol_errors(payload: bytes) -> None:
    for decoder in DECODERS.values():
        with pytest.raises(ProtocolError):
            decoder(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["name", "client", "protect", "domain", "host", "concurrency", "banner", "x"])
bodies = st.dictionaries(fields, json_values)
objects = st.dictionaries(
    st.sampled_from(["control", "proxy", "error", "message", "x"]),
    json_values | bodies | st.sampled_from(["ping", "pong", True]),
    max_size=3,
)


@given(objects)
def test_random_objects_are_messages_or_refused(value: dict[str, object]) -> None:
    payload = json.dumps(value).encode()
    for decoder in DECODERS.values():
        try:
            message = decoder(payload)
        except ProtocolError:
            continue
        assert {"control", "proxy", "error"} & value.keys()
        assert decode(message, encode(message)[4:]) == message


@given(st.sampled_from(EVERY_MESSAGE), st.data())
def test_one_broken_byte_is_never_more_than_a_protocol_error(example: tuple[Message, Any], data: st.DataObject) -> None:
    message, _ = example
    payload = bytearray(encode(message)[4:])
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        changed = decode(message, bytes(payload))
    except ProtocolError:
        return
    payload.decode("utf-8")
    assert isinstance(json.loads(payload), dict)
    assert type(changed) in TYPES.values()
