"""Holds PROTOCOL.md to the code: its limits, its state tables, its messages, its error codes and its example bytes."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.inspect import type_info

from localtunnel.errors import VersionError
from localtunnel.protocol import limits, messages
from localtunnel.protocol.framing import LTP_0_2, VERSIONS, Decoder
from localtunnel.protocol.messages import Message
from localtunnel.protocol.states import TABLE, State, advance

TEXT = (Path(__file__).parents[1] / "PROTOCOL.md").read_text(encoding="utf-8")

TITLES: dict[str, type] = {
    "Control request": messages.ControlRequest,
    "Control reply": messages.ControlReply,
    "Proxy request": messages.ProxyRequest,
    "Assignment": messages.Assigned,
    "Ping": messages.Ping,
    "Pong": messages.Pong,
    "Error": messages.ErrorReply,
}
FROM_CLIENT = (messages.ControlRequest, messages.ProxyRequest, messages.Pong)


def section(title: str) -> str:
    """Return the text below the heading that ends in ``title``, up to the next heading of its rank or above."""
    found = re.search(rf"^(#+) [0-9.]+ {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None, f"PROTOCOL.md has no section {title!r}"
    return found[2]


def rows(text: str, *columns: str) -> list[tuple[str, ...]]:
    """Return the rows of every table in ``text`` that has just these columns."""
    found = []
    inside = False
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else ()
        if cells == columns:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set("".join(cells)) <= set("- "):
            found.append(cells)
    return found


def code(cell: str) -> str:
    assert cell.startswith("`"), cell
    return cell.strip("`")


# Limits.

LIMIT_ROWS = rows(section("Limits"), "What is bounded", "Value", "Constant")
OBSERVABLE = {
    "MAX_MESSAGE",
    "MAX_HEARTBEAT",
    "MAX_DEPTH",
    "PREAMBLE_TIMEOUT",
    "HEARTBEAT_INTERVAL",
    "HEARTBEAT_TIMEOUT",
    "CLIENT_HEARTBEAT_TIMEOUT",
    "ERROR_HOLD",
    "MAX_CONCURRENCY",
    "MAX_NAME",
    "MAX_CLIENT_ID",
}
"""What a peer can find out by trying. The table may hold more."""


@pytest.mark.parametrize("row", LIMIT_ROWS, ids=lambda row: code(row[2]))
def test_limits(row: tuple[str, ...]) -> None:
    number, unit = row[1].split()
    value = getattr(limits, code(row[2]))
    assert float(number) == value
    assert (unit == "s") is isinstance(value, float)


def test_every_limit_that_a_peer_can_observe_is_in_the_table() -> None:
    assert {code(constant) for _, _, constant in LIMIT_ROWS} >= OBSERVABLE


@pytest.mark.parametrize(
    ("title", "sentence", "value"),
    [
        ("Heartbeats", r"one every ([0-9]+) s", limits.HEARTBEAT_INTERVAL),
        ("Heartbeats", r"no pong has come ([0-9]+) s after", limits.HEARTBEAT_TIMEOUT),
        ("Heartbeats", r"no message for ([0-9]+) s,", limits.CLIENT_HEARTBEAT_TIMEOUT),
        ("Errors", r"keeps the connection open for ([0-9]+) s,", limits.ERROR_HOLD),
        ("Errors", r"no whole first message in ([0-9]+) s", limits.PREAMBLE_TIMEOUT),
        ("Protocol header", r"`exception` after ([0-9]+) s", limits.PREAMBLE_TIMEOUT),
        ("Control reply", r"and ([0-9]+) at most", limits.MAX_CONCURRENCY),
        ("Control request", r"1 to ([0-9]+) letters", limits.MAX_NAME),
    ],
)
def test_numbers_in_the_prose(title: str, sentence: str, value: float) -> None:
    found = re.search(sentence, section(title))
    assert found is not None, sentence
    assert float(found[1]) == value


# States.

STATE_ROWS = rows(TEXT, "State", "Message", "Sent by", "Next state")


def test_state_tables() -> None:
    in_document = {(State(code(state)), TITLES[title], State(code(after))) for state, title, _, after in STATE_ROWS}
    in_code = {(state, kind, after) for state, row in TABLE.items() for kind, after in row.items()}
    assert in_document == in_code
    assert len(STATE_ROWS) == len(in_code)


def test_who_sends_each_message() -> None:
    for _, title, sender, _ in STATE_ROWS:
        assert sender == ("client" if TITLES[title] in FROM_CLIENT else "server"), title


# Messages.


@pytest.mark.parametrize("title", ["Control request", "Control reply", "Proxy request", "Error"])
def test_fields(title: str) -> None:
    table = rows(section(title), "Field", "Type", "Required", "Limit", "Meaning")
    struct: Any = type_info(TITLES[title])
    assert [code(row[0]) for row in table] == [field.name for field in struct.fields]
    for row, field in zip(table, struct.fields, strict=True):
        kind, bounds = describe(field.type)
        assert row[1:4] == (kind, "yes" if field.required else "no", bounds), field.name


def describe(kind: Any) -> tuple[str, str]:
    """Return the words of the table for a type, and for its limit."""
    if isinstance(kind, msgspec.inspect.UnionType):
        inner = [member for member in kind.types if not isinstance(member, msgspec.inspect.NoneType)]
        assert kind.includes_none
        assert len(inner) == 1
        words, bounds = describe(inner[0])
        return f"{words} or null", bounds
    if isinstance(kind, msgspec.inspect.IntType):
        return "integer", ""
    assert isinstance(kind, msgspec.inspect.StrType)
    if kind.max_length is None:
        return "string", ""
    return "string", f"{kind.min_length} to {kind.max_length}" if kind.min_length else str(kind.max_length)


def test_error_codes() -> None:
    table = rows(section("Errors"), "Code", "Sent when", "What the client does")
    in_code = {messages.UNAVAILABLE, messages.EXPIRED, messages.EXCEPTION, messages.VERSION}
    assert {code(row[0]) for row in table} == in_code


def test_versions() -> None:
    table = rows(section("Versions"), "Header", "Status", "Sections")
    assert {code(row[0]).encode() for row in table if row[1] == "spoken"} == set(VERSIONS)


# The example session.

LINE = re.compile(r"  ((?:[0-9a-f]{2} ?){1,16}) *(.*)")
SESSIONS = dict(re.findall(r"^```ltp (\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def parts(session: str) -> list[tuple[str, str, bytes]]:
    """Return sender, meaning and bytes of every part of an example."""
    found: list[tuple[str, str, bytes]] = []
    for line in SESSIONS[session].splitlines():
        if line.startswith("  "):
            dumped = LINE.fullmatch(line)
            assert dumped is not None, line
            data = bytes.fromhex(dumped[1])
            readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
            assert dumped[2] == readable.rstrip(), line
            sender, meaning, before = found.pop()
            found.append((sender, meaning, before + data))
        else:
            sender, _, meaning = line.partition(": ")
            assert sender in ("client", "server"), line
            found.append((sender, meaning, b""))
    return found


def test_there_are_three_examples() -> None:
    assert list(SESSIONS) == ["control", "proxy", "version"]


@pytest.mark.parametrize("session", SESSIONS)
def test_what_each_part_is_said_to_be(session: str) -> None:
    for _, meaning, data in parts(session):
        if meaning.startswith("{"):
            assert json.loads(data) == json.loads(meaning)
        elif meaning.startswith("length "):
            assert len(data) == 4
            assert int.from_bytes(data, "big") == int(meaning.removeprefix("length "))
        elif meaning == "header":
            assert re.fullmatch(rb"LTP/[0-9]\.[0-9]", data)
        else:
            assert meaning == "stream"


def decoded(session: str) -> tuple[list[Message], dict[str, bytes]]:
    """Run an example through both decoders, part by part; return the messages in order, and what was left for each."""
    decoders = {"client": Decoder(header=True), "server": Decoder(header=False)}
    decode = {"client": messages.decode_from_client, "server": messages.decode_from_server}
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
    assert decoders["client"].version == LTP_0_2
    return found, streams


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
    assert end_state(found) is State.OPEN


def test_the_proxy_connection_byte_by_byte() -> None:
    found, streams = decoded("proxy")
    assert found == [messages.ProxyRequest("demo", "ann@laptop;Linux;7f3a"), messages.ASSIGNED]
    assert end_state(found) is State.JOINED
    assert streams["server"].startswith(b"GET / HTTP/1.1\r\nHost: demo.example.com\r\n")
    assert streams["client"].startswith(b"HTTP/1.1 204 ")


def test_the_unknown_version_byte_by_byte() -> None:
    (_, _, header), *answer = parts("version")
    decoder = Decoder(header=True)
    decoder.feed(header)
    with pytest.raises(VersionError):
        decoder.next_payload()
    decoder = Decoder(header=False)
    decoder.feed(b"".join(data for _, _, data in answer))
    payload = decoder.next_payload()
    assert payload is not None
    reply = messages.decode_from_server(payload)
    assert isinstance(reply, messages.ErrorReply)
    assert reply.error == messages.VERSION
    assert end_state([reply]) is State.CLOSED


def end_state(found: list[Message]) -> State:
    state = State.START
    for message in found:
        state = advance(state, message)
    return state
