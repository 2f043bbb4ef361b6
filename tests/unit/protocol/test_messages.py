"""The typed messages: what each looks like on the wire, what is refused, and that nothing else can come out."""

import json
from typing import Any

import msgspec
import pytest
from harness.vector_items import load, to_bytes
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import FrameError, MessageError, ProtocolError, upstream_error
from localtunnel.protocol import messages
from localtunnel.protocol.limits import MAX_CLIENT_ID
from localtunnel.protocol.messages import (
    Assigned,
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
    Ping,
    Pong,
    Proof,
    ProxyRequest,
    Ready,
    Release,
    Replaced,
)
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.protocol.wire.codec import check_fields, decode_from_client, decode_from_server, encode
from localtunnel.protocol.wire.framing import Decoder

TYPES: dict[str, type[msgspec.Struct]] = {
    "control_request": ControlRequest,
    "control_reply": ControlReply,
    "challenge": Challenge,
    "proof": Proof,
    "proxy_request": ProxyRequest,
    "assigned": Assigned,
    "assignment": Assignment,
    "got": Got,
    "ready": Ready,
    "failed": Failed,
    "ping": Ping,
    "pong": Pong,
    "concurrency": Concurrency,
    "drain": Drain,
    "replaced": Replaced,
    "notice": Notice,
    "release": Release,
    "error": ErrorReply,
}
FROM_CLIENT = (ControlRequest, Proof, ProxyRequest, Got, Ready, Failed, Release)
FROM_BOTH = (Ping, Pong)
SESSION = "0123456789abcdef0123456789abcdef"
VERSIONS = {"0.2": LTP_0_2, "0.3": LTP_0_3}
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
    (
        ControlRequest("demo", "c", instance="i", kind="tcp", port=20000, resume=SESSION),
        {
            "control": {
                "name": "demo",
                "client": "c",
                "instance": "i",
                "kind": "tcp",
                "port": 20000,
                "resume": SESSION,
            }
        },
    ),
    (
        ControlReply("h", 4, "b", "http://h", SESSION, 5.0),
        {
            "control": {
                "host": "h",
                "concurrency": 4,
                "banner": "b",
                "url": "http://h",
                "session": SESSION,
                "heartbeat": 5.0,
            }
        },
    ),
    (
        ControlRequest("demo", "c", instance="i", auth="p=x"),
        {"control": {"name": "demo", "client": "c", "instance": "i", "auth": "p=x"}},
    ),
    (
        ControlReply("h", 4, "b", "http://h", SESSION, 5.0, "v=x"),
        {
            "control": {
                "host": "h",
                "concurrency": 4,
                "banner": "b",
                "url": "http://h",
                "session": SESSION,
                "heartbeat": 5.0,
                "auth": "v=x",
            }
        },
    ),
    (Challenge("r=x"), {"challenge": "r=x"}),
    (Proof("c=x"), {"proof": "c=x"}),
    (
        ControlRequest("demo", "c", instance="i", options={"cors": True, "allow_ip": ["::1"]}),
        {"control": {"name": "demo", "client": "c", "instance": "i", "options": {"cors": True, "allow_ip": ["::1"]}}},
    ),
    (
        ControlReply("h", options=("cors", "allow_ip")),
        {"control": {"host": "h", "concurrency": 1, "banner": "", "options": ["cors", "allow_ip"]}},
    ),
    (ProxyRequest("demo", "c"), {"proxy": {"name": "demo", "client": "c"}}),
    (ProxyRequest("demo", session=SESSION), {"proxy": {"name": "demo", "session": SESSION}}),
    (
        ControlRequest("demo", "c", instance="i", recycle=True),
        {"control": {"name": "demo", "client": "c", "instance": "i", "recycle": True}},
    ),
    (
        ControlReply("h", recycle=True),
        {"control": {"host": "h", "concurrency": 1, "banner": "", "recycle": True}},
    ),
    (
        ProxyRequest("demo", session=SESSION, delivered=0),
        {"proxy": {"name": "demo", "session": SESSION, "delivered": 0}},
    ),
    (Assigned(), {"proxy": True}),
    (
        Assignment(7, "203.0.113.7:51234", "tcp"),
        {"proxy": {"id": 7, "peer": "203.0.113.7:51234", "kind": "tcp"}},
    ),
    (Got(7), {"got": 7}),
    (Ready(7), {"ready": 7}),
    (Failed(7, "refused"), {"failed": {"id": 7, "error": "refused"}}),
    (Concurrency(80), {"concurrency": 80}),
    (Drain(30), {"drain": 30}),
    (Replaced("t"), {"replaced": "t"}),
    (Notice("t"), {"notice": "t"}),
    (Release(), {"release": True}),
    (Ping(), {"control": "ping"}),
    (Pong(), {"control": "pong"}),
    (ErrorReply("unavailable", "Taken."), {"error": "unavailable", "message": "Taken."}),
    (ErrorReply("expired"), {"error": "expired", "message": ""}),
]


def decode(message: Message, payload: bytes) -> Message:
    return decode_from_client(payload) if isinstance(message, FROM_CLIENT) else decode_from_server(payload)


def check(message: Message, version: Version) -> Message:
    """Refuse a request that lacks what ``version`` demands."""
    if isinstance(message, ControlRequest | ProxyRequest):
        check_fields(message, version)
    return message


@pytest.mark.parametrize("case", load("messages.json"))
def test_vectors(case: dict[str, Any]) -> None:
    decoder, payload = DECODERS[case["from"]], to_bytes(case["payload"])
    for version in [VERSIONS[case["version"]]] if "version" in case else VERSIONS.values():
        if "refused" in case:
            with pytest.raises(ERRORS[case["refused"]]):
                check(decoder(payload, version), version)
        else:
            fields = dict(case["message"])
            expected = msgspec.convert(fields, TYPES[fields.pop("type")])
            assert check(decoder(payload, version), version) == expected


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
        decoder = Decoder(LTP_0_3)
        decoder.feed(data[:place])
        payload = decoder.next_payload()
        decoder.feed(data[place:])
        payload = payload or decoder.next_payload()
        assert payload is not None
        assert decode(message, payload) == message
        assert decoder.take_rest() == trailing


@pytest.mark.parametrize(("message", "wire"), EVERY_MESSAGE)
def test_every_message_byte_by_byte(message: Message, wire: object) -> None:
    decoder = Decoder(LTP_0_3)
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
def test_no_message_may_come_from_the_other_side_but_heartbeats(message: Message, wire: object) -> None:
    payload = encode(message)[4:]
    if isinstance(message, FROM_BOTH):
        assert decode_from_client(payload) == decode_from_server(payload) == message
        return
    decoder = decode_from_server if isinstance(message, FROM_CLIENT) else decode_from_client
    with pytest.raises(MessageError):
        decoder(payload)


def test_every_type_of_message_is_covered() -> None:
    assert {type(message) for message, _ in EVERY_MESSAGE} == set(TYPES.values())
    assert {case.values[0].get("message", {}).get("type") for case in load("messages.json")} == {*TYPES, None}


def test_error_codes() -> None:
    codes = messages.UNAVAILABLE, messages.EXPIRED, messages.EXCEPTION, messages.VERSION
    assert codes == ("unavailable", "expired", "exception", "version")
    assert (messages.PORT_REFUSED, messages.OPTION_REFUSED) == ("port_refused", "option_refused")
    assert messages.SEEN == "seen"
    for word in ("refused", "timeout", "unreachable", "closed"):
        assert upstream_error(word).word == word
    assert upstream_error("teapot").word == "unreachable"


@pytest.mark.parametrize("version", VERSIONS.values())
def test_what_each_version_demands(version: Version) -> None:
    complete: dict[Version, list[Message]] = {
        LTP_0_2: [ControlRequest("demo", "c"), ProxyRequest("demo", "c")],
        LTP_0_3: [ControlRequest("demo", "c", instance="i"), ProxyRequest("demo", session=SESSION)],
    }
    for message in complete[version]:
        check(message, version)
    lacking = {LTP_0_2: [ProxyRequest("demo", session=SESSION)], LTP_0_3: complete[LTP_0_2]}
    for message in lacking[version]:
        with pytest.raises(MessageError, match=f"lacks the field '(client|instance|session)', which {version}"):
            check(message, version)


names = st.text(st.characters(codec="utf-8"), max_size=255)
clients = st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_CLIENT_ID)
texts = st.text(st.characters(codec="utf-8"), max_size=300)
options = st.none() | names
secrets = st.text(st.characters(codec="utf-8"), min_size=32, max_size=64)
kinds = st.sampled_from(["http", "tcp"])
ports = st.integers(1, 65535)
ids = st.integers(1, 2**53 - 1)
sizes = st.integers(0, 2**64 - 1)
durations = st.floats(0, 1e9)


@given(
    st.one_of(
        st.builds(ControlRequest, names, clients, options, options),
        st.builds(ControlRequest, names, clients, options, options, clients, kinds, ports | st.none(), secrets),
        st.builds(ControlReply, texts, sizes, texts),
        st.builds(ControlReply, texts, sizes, texts, texts, secrets, durations.filter(bool)),
        st.builds(ProxyRequest, names, clients),
        st.builds(ProxyRequest, names, session=secrets),
        st.builds(ProxyRequest, names, session=secrets, delivered=st.integers(0, 2**53 - 1)),
        st.builds(ControlRequest, names, clients, instance=clients, recycle=st.booleans()),
        st.builds(ControlReply, texts, sizes, texts, recycle=st.booleans()),
        st.builds(Assignment, ids, texts, kinds),
        st.builds(Got, ids),
        st.builds(Ready, ids),
        st.builds(Failed, ids, texts),
        st.builds(Concurrency, sizes),
        st.builds(Drain, durations),
        st.builds(Replaced, texts),
        st.builds(Notice, texts),
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
FIELDS = {name for kind in TYPES.values() for name in kind.__struct_fields__}
fields = st.sampled_from([*sorted(FIELDS), "x"])
bodies = st.dictionaries(fields, json_values)
KEYS = {key for _, wire in EVERY_MESSAGE for key in wire} - {"message"}
objects = st.dictionaries(
    st.sampled_from([*sorted(KEYS), "message", "x"]),
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
        assert KEYS & value.keys()
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
