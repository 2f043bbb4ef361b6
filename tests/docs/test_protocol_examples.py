"""Holds the example sessions of PROTOCOL.md to the code: read from the document byte by byte, and decoded."""

import json
import re

import pytest
from harness.places import ROOT

from localtunnel.errors import MessageError, VersionError
from localtunnel.protocol import messages, options
from localtunnel.protocol.messages import Message
from localtunnel.protocol.states import State, advance
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, VERSIONS, Version
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.framing import Decoder
from localtunnel.protocol.wire.stream import END, Unchunker, chunked

TEXT = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
SESSION = "c1f0a94be23d4d6f8a5b7e90126c3d58"

TEXT_COLUMN = 52
"""Where a line of bytes shows them as text: behind 16 of them in hexadecimal."""

SESSIONS = dict(re.findall(r"^```ltp (\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def parts(session: str) -> list[tuple[str, str, bytes]]:
    """Return sender, meaning and bytes of every part of an example."""
    found: list[tuple[str, str, bytes]] = []
    for line in SESSIONS[session].splitlines():
        if line.startswith("  "):
            data = bytes.fromhex(line[2:TEXT_COLUMN])
            readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
            assert line[TEXT_COLUMN:] == readable.rstrip(), line
            sender, meaning, before = found.pop()
            found.append((sender, meaning, before + data))
        else:
            sender, _, meaning = line.partition(": ")
            assert sender in ("client", "server"), line
            found.append((sender, meaning, b""))
    return found


def test_the_examples() -> None:
    assert " ".join(SESSIONS) == (
        "version control_0_3 login_0_3 proxy_0_3 seen_0_3 chunked_0_3 recycled_0_3"
        " failed_0_3 resume_0_3 replaced_0_3 options_0_3 tcp_0_3 tcp_proxy_0_3 invalid_0_3 control proxy"
    )


@pytest.mark.parametrize("session", SESSIONS)
def test_what_each_part_is_said_to_be(session: str) -> None:
    for _, meaning, data in parts(session):
        if meaning.startswith("{"):
            # A long one is shown with its middle left out.
            start, cut, end = meaning.partition("…")
            assert data.decode().startswith(start)
            assert data.decode().endswith(end if cut else start)
            json.loads(data)
        elif meaning.startswith("length "):
            assert len(data) == 4
            assert int.from_bytes(data, "big") == int(meaning.removeprefix("length "))
        elif meaning == "header":
            assert re.fullmatch(rb"LTP/[0-9]\.[0-9]", data)
        else:
            assert meaning == "stream"


def decoded(session: str) -> tuple[list[Message], dict[str, bytes]]:
    """Run an example through both decoders, part by part; return the messages in order, and what was left for each."""
    decoders = {"client": Decoder(), "server": Decoder(LTP_0_3)}
    decode = {"client": codec.decode_from_client, "server": codec.decode_from_server}
    found: list[Message] = []
    streams = {"client": b"", "server": b""}
    for sender, meaning, data in parts(session):
        if meaning == "stream":
            streams[sender] += data
            continue
        decoders[sender].feed(data)
        payload = decoders[sender].next_payload()
        if payload is not None:
            found.append(decode[sender](payload))
    assert not any(decoder.take_rest() for decoder in decoders.values())
    assert decoders["client"].version == version_of(session)
    for message in found:
        if isinstance(message, messages.ControlRequest | messages.ProxyRequest):
            codec.check_fields(message, version_of(session))
    return found, streams


def version_of(session: str) -> Version:
    return LTP_0_3 if session.endswith("_0_3") else LTP_0_2


def test_the_control_connection_byte_by_byte() -> None:
    found, streams = decoded("control")
    client = "ann@laptop;Linux;7f3a"
    assert found == [
        messages.ControlRequest("demo", client),
        messages.ControlReply("demo.example.com", 2, "Welcome."),
        messages.PING,
        messages.PONG,
    ]
    assert not any(streams.values())
    assert end_state(found, LTP_0_2) is State.OPEN


def test_the_proxy_connection_byte_by_byte() -> None:
    found, streams = decoded("proxy")
    assert found == [messages.ProxyRequest("demo", "ann@laptop;Linux;7f3a"), messages.ASSIGNED]
    assert end_state(found, LTP_0_2) is State.JOINED
    assert streams["server"].startswith(b"GET / HTTP/1.1\r\nHost: demo.example.com\r\n")
    assert streams["client"].startswith(b"HTTP/1.1 204 ")


def test_the_unknown_version_byte_by_byte() -> None:
    (_, _, header), *answer = parts("version")
    decoder = Decoder()
    decoder.feed(header)
    with pytest.raises(VersionError):
        decoder.next_payload()
    decoder = Decoder(LTP_0_3)
    decoder.feed(b"".join(data for _, _, data in answer))
    payload = decoder.next_payload()
    assert payload is not None
    reply = codec.decode_from_server(payload)
    assert isinstance(reply, messages.ErrorReply)
    assert reply.error == messages.VERSION
    assert all(str(version) in reply.message for version in VERSIONS)
    assert end_state([reply], LTP_0_2) is State.CLOSED


def test_the_control_connection_of_0_3_byte_by_byte() -> None:
    found, streams = decoded("control_0_3")
    assert found == [
        messages.ControlRequest("shop", "bob@desk;Linux", instance="8d1c5e02b7a94f36", kind="http"),
        messages.ControlReply("shop.example.com", 4, "Welcome.", "http://shop.example.com", SESSION, 5.0),
        messages.PING,
        messages.PING,
        messages.PONG,
        messages.PONG,
        messages.Concurrency(15),
        messages.RELEASE,
    ]
    assert not any(streams.values())
    assert end_state(found, LTP_0_3) is State.CLOSED


def test_the_proxy_connection_of_0_3_byte_by_byte() -> None:
    found, streams = decoded("proxy_0_3")
    assert found == [
        messages.ProxyRequest("shop", session=SESSION),
        messages.Assignment(41, "203.0.113.7:51234", "http"),
        messages.Got(41),
        messages.Ready(41),
    ]
    assert end_state(found, LTP_0_3) is State.JOINED
    assert streams["server"].startswith(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n")
    assert streams["client"].startswith(b"HTTP/1.1 204 ")


def test_the_repeated_assignment_byte_by_byte() -> None:
    found, streams = decoded("seen_0_3")
    assert found[1:] == [messages.Assignment(41, "203.0.113.7:51234", "http"), messages.Failed(41, messages.SEEN)]
    assert end_state(found, LTP_0_3) is State.CLOSED
    assert streams == {"server": decoded("proxy_0_3")[1]["server"], "client": b""}


def test_the_stream_in_chunks_byte_by_byte() -> None:
    found, streams = decoded("chunked_0_3")
    assert end_state(found, LTP_0_3) is State.JOINED
    carried = {}
    for sender, data in streams.items():
        direction = Unchunker()
        carried[sender] = direction.feed(data)
        assert direction.ended
    assert carried == decoded("proxy_0_3")[1]


def test_the_recycled_connection_byte_by_byte() -> None:
    found, streams = decoded("recycled_0_3")
    ask, answer = decoded("proxy_0_3")[1]["server"], decoded("proxy_0_3")[1]["client"]
    first, second = found[:4], found[4:]
    assert second[0] == messages.ProxyRequest("shop", session=SESSION, delivered=len(ask))
    assert first[1:] == [messages.Assignment(45, "203.0.113.7:51241", "http"), messages.Got(45), messages.Ready(45)]
    assert second[1:] == [messages.Assignment(46, "203.0.113.7:51242", "http"), messages.Got(46), messages.Ready(46)]
    assert end_state(first, LTP_0_3) is State.JOINED
    assert end_state(second, LTP_0_3, State.ENDED) is State.JOINED
    for sender, content in (("server", ask), ("client", answer)):
        # The marks of both directions come before the request, and each stream begins anew behind its message.
        assert streams[sender] == chunked(content) + END + chunked(content)
    order = [(sender, data) for sender, meaning, data in parts("recycled_0_3") if data == END or meaning == "header"]
    assert order == [("client", b"LTP/0.3"), ("server", END), ("client", END)]


def test_the_refused_upstream_byte_by_byte() -> None:
    found, _ = decoded("failed_0_3")
    assert found[1:] == [
        messages.Assignment(43, "203.0.113.7:51240", "http"),
        messages.Got(43),
        messages.Failed(43, "refused"),
    ]
    assert end_state(found, LTP_0_3) is State.CLOSED


def test_the_resumed_session_byte_by_byte() -> None:
    found, _ = decoded("resume_0_3")
    request, reply, ping = found
    assert isinstance(request, messages.ControlRequest)
    assert isinstance(reply, messages.ControlReply)
    assert request.resume == reply.session == SESSION
    (sender, _, length), (_, _, payload) = parts("replaced_0_3")
    assert (sender, int.from_bytes(length, "big")) == ("server", len(payload))
    told = codec.decode_from_server(payload)
    assert isinstance(told, messages.Replaced)
    assert end_state([request, reply, ping, told], LTP_0_3) is State.CLOSED


def test_the_options_byte_by_byte() -> None:
    (request, reply), _ = decoded("options_0_3")
    assert isinstance(request, messages.ControlRequest)
    assert isinstance(reply, messages.ControlReply)
    assert options.of_request(request).protect == "bob:secret"
    assert not options.missing(options.of_request(request), reply)


def test_the_tcp_tunnel_byte_by_byte() -> None:
    found, _ = decoded("tcp_0_3")
    joined, streams = decoded("tcp_proxy_0_3")
    assert isinstance(found[0], messages.ControlRequest)
    assert isinstance(found[1], messages.ControlReply)
    assert (found[0].kind, found[0].port) == ("tcp", 20022)
    assert joined[0] == messages.ProxyRequest("db", session=found[1].session)
    assert joined[1] == messages.Assignment(44, "[2001:db8::7]:51300", "tcp")
    assert end_state(joined, LTP_0_3) is State.JOINED
    assert (streams["server"], streams["client"]) == (b"", b"SSH-2.0-OpenSSH_9.2\r\n")


def test_the_request_that_is_none_byte_by_byte() -> None:
    _, length, request, answer_length, answer = (data for _, _, data in parts("invalid_0_3"))
    assert int.from_bytes(length, "big") == len(request)
    assert int.from_bytes(answer_length, "big") == len(answer)
    with pytest.raises(MessageError) as raised:
        codec.decode_from_client(request)
    assert codec.decode_from_server(answer) == messages.ErrorReply(messages.INVALID_REQUEST, str(raised.value))


def end_state(found: list[Message], version: Version, state: State = State.START) -> State:
    for message in found:
        state = advance(version, state, message)
    return state
