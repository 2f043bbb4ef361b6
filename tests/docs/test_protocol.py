"""Holds PROTOCOL.md to the code: its limits, its state tables, its messages, its error codes and its example bytes."""

import base64
import json
import re
from typing import Any

import msgspec
import pytest
from harness.places import ROOT
from msgspec.inspect import type_info

from localtunnel.client import retry as client_retry
from localtunnel.client.config import Timeouts as ClientTimeouts
from localtunnel.client.sessions import proxies
from localtunnel.errors import MessageError, upstream_error
from localtunnel.protocol import limits, messages, options
from localtunnel.protocol.login import scram, token
from localtunnel.protocol.messages import Message
from localtunnel.protocol.states import TABLES, State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, VERSIONS, Version
from localtunnel.protocol.wire import codec, stream
from localtunnel.server.tunnels import demand

TEXT = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")

TITLES: dict[str, type] = {
    "Control request": messages.ControlRequest,
    "Control reply": messages.ControlReply,
    "Challenge": messages.Challenge,
    "Proof": messages.Proof,
    "Proxy request": messages.ProxyRequest,
    "Assigned": messages.Assigned,
    "Assignment": messages.Assignment,
    "Got": messages.Got,
    "Ready": messages.Ready,
    "Failed": messages.Failed,
    "Ping": messages.Ping,
    "Pong": messages.Pong,
    "Concurrency": messages.Concurrency,
    "Notice": messages.Notice,
    "Drain": messages.Drain,
    "Replaced": messages.Replaced,
    "Release": messages.Release,
    "Error": messages.ErrorReply,
}
HEARTBEATS = (messages.Ping, messages.Pong)
SESSION = "c1f0a94be23d4d6f8a5b7e90126c3d58"
EXAMPLES: dict[str, Message] = {
    "Control request": messages.ControlRequest("demo", "c", instance="i"),
    "Control reply": messages.ControlReply("h"),
    "Challenge": messages.Challenge("r=x"),
    "Proof": messages.Proof("c=x"),
    "Proxy request": messages.ProxyRequest("demo", "c"),
    "Assigned": messages.ASSIGNED,
    "Assignment": messages.Assignment(7, "p"),
    "Got": messages.Got(7),
    "Ready": messages.Ready(7),
    "Failed": messages.Failed(7, "seen"),
    "Ping": messages.PING,
    "Pong": messages.PONG,
    "Concurrency": messages.Concurrency(4),
    "Notice": messages.Notice("n"),
    "Drain": messages.Drain(30),
    "Replaced": messages.Replaced("r"),
    "Release": messages.RELEASE,
    "Error": messages.ErrorReply("exception"),
}
SPOKEN_IN = {"both": {LTP_0_2, LTP_0_3}, "0.2": {LTP_0_2}, "0.3": {LTP_0_3}}


def section(title: str) -> str:
    """Return the text below the heading that ends in ``title``, up to the next heading of its rank or above."""
    found = re.search(rf"^(#+) (?:[0-9.]+ )?{re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", TEXT, re.DOTALL | re.MULTILINE)
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


def test_no_line_is_longer_than_an_editor_shows() -> None:
    assert [line for line in TEXT.splitlines() if len(line) >= 120] == []


# Limits.

LIMITS = {
    "payload of a message up to the control reply, or on a proxy connection": limits.MAX_MESSAGE,
    "payload of a message on an open control connection": limits.MAX_HEARTBEAT,
    "depth to which arrays and objects nest, the message being the first level": limits.MAX_DEPTH,
    "a tunnel's name": limits.MAX_NAME,
    "`client` and `instance` in a request": limits.MAX_CLIENT_ID,
    "any other text of a request": limits.MAX_TEXT,
    "one message of a login": limits.MAX_SCRAM,
    "the banner of a control reply": limits.MAX_BANNER,
    "names in an error that tells which ones a token covers": limits.MAX_PATTERNS,
    "field lines, names or networks in one option of a tunnel": limits.MAX_OPTION_ITEMS,
    "one of them": limits.MAX_OPTION_TEXT,
    "bytes of the visitor that go out with an assignment of 0.3": limits.MAX_FIRST,
    "ids that a client of 0.3 remembers in a session, at least": limits.SEEN_IDS,
    "bytes of a stream behind the whole answer, before the client's end mark": limits.MAX_BEHIND_ANSWER,
    "proxy connections that a client parks, whatever it is asked for": limits.MAX_CONCURRENCY,
    "messages at once on an open control connection": limits.MESSAGE_BURST,
    "messages on average, in a second": limits.MESSAGE_RATE,
    "messages on average, in a heartbeat interval, where that is more": limits.MESSAGES_PER_HEARTBEAT,
    "from the first byte of a TLS handshake to its end": limits.HANDSHAKE_TIMEOUT,
    "from accepting a connection, or the end of its handshake, to its whole first message": limits.PREAMBLE_TIMEOUT,
    "between two pings": limits.HEARTBEAT_INTERVAL,
    "from a ping to its pong (0.2)": limits.HEARTBEAT_TIMEOUT,
    "a client's patience without any message on the control connection (0.2)": limits.CLIENT_HEARTBEAT_TIMEOUT,
    "silence that ends a tunnel of 0.3": limits.MISSED_HEARTBEATS,
    "a connection held open after an error": limits.ERROR_HOLD,
    "a visitor's wait for a proxy connection": limits.POOL_WAIT,
    "from an assignment to `got`, at least": limits.GOT_TIMEOUT,
    "the same in round trips of the connection": limits.GOT_ROUND_TRIPS,
    "from `got` to `ready` or `failed`": limits.READY_TIMEOUT,
    "a parked connection of 0.3, less a random fifth": limits.PARKED_AGE,
    "from the server's end mark behind the whole answer to the client's": limits.MARK_TIMEOUT,
    "from the last end mark to the proxy request by which a connection comes back": limits.ENDED_TIMEOUT,
    "a name kept for a client without token and key that has gone without `release`": limits.LEASE,
    "the same for an owner with a token or a key": limits.OWNED_LEASE,
    "from a flood to the client's next attempt, at least": limits.FLOODED_PAUSE,
}
"""What a peer can find out by trying, by the words of the tables."""

LIMIT_ROWS = rows(section("Limits"), "What is bounded", "Limit") + rows(section("Limits"), "What is bounded", "Time")


def test_limits() -> None:
    found = {what: number_of(value) for what, value in LIMIT_ROWS}
    assert found == LIMITS
    for what, value in LIMIT_ROWS:
        assert value.endswith(" s") is isinstance(LIMITS[what], float), what


def number_of(value: str) -> float:
    number, _ = value.split()
    return float(number)


@pytest.mark.parametrize(
    ("title", "sentence", "value"),
    [
        ("TLS (LTP/0.3)", r"done within ([0-9]+) s", limits.HANDSHAKE_TIMEOUT),
        ("Streams over TLS (LTP/0.3)", r"which is ([0-9]+) bytes", stream.MAX_CHUNK),
        ("Heartbeats", r"one every ([0-9]+) s", limits.HEARTBEAT_INTERVAL),
        ("Heartbeats", r"no pong has come ([0-9]+) s after", limits.HEARTBEAT_TIMEOUT),
        ("Heartbeats", r"no message for ([0-9]+) s,", limits.CLIENT_HEARTBEAT_TIMEOUT),
        ("Errors", r"keeps the connection open for ([0-9]+) s,", limits.ERROR_HOLD),
        ("Errors", r"no whole first message in ([0-9]+) s", limits.PREAMBLE_TIMEOUT),
        ("Protocol header", r"`exception` after ([0-9]+) s", limits.PREAMBLE_TIMEOUT),
        ("Control reply", r"and ([0-9]+) at most", limits.MAX_CONCURRENCY),
        ("Control request", r"1 to ([0-9]+) letters", limits.MAX_NAME),
        ("Challenge and proof (LTP/0.3)", r"1 to ([0-9]+) characters", limits.MAX_SCRAM),
        ("Logging in (LTP/0.3)", r"fewer than ([0-9]+) rounds", scram.ITERATIONS),
        ("Logging in (LTP/0.3)", r"or more than ([0-9]+)", scram.MAX_ITERATIONS),
        ("Logging in (LTP/0.3)", r"without padding, ([0-9]+),", token.ID_LENGTH),
        ("Logging in (LTP/0.3)", r"The secret is the ([0-9]+) characters", token.SECRET_LENGTH),
        ("Control reply", r"to ([0-9.]+) s at least", limits.HEARTBEAT_BOUNDS[0]),
        ("Control reply", r"and ([0-9]+) s at most", limits.HEARTBEAT_BOUNDS[1]),
        ("Control reply", r"of either side; ([0-9]+) if it is left out", limits.HEARTBEAT_INTERVAL),
        ("Control reply", r"`banner` to ([0-9]+) characters", limits.MAX_BANNER),
        ("Limits", r"had been up for ([0-9]+) s", client_retry.HEALTHY),
        ("Limits", r"first time ([0-9.]+) s", ClientTimeouts().retry_first),
        ("Limits", r"failure up to ([0-9]+) s", ClientTimeouts().retry_longest),
        ("Limits", r"from ([0-9.]+) s up to", 2 * proxies.RETRY_FIRST),
        ("Limits", r" s up to ([0-9]+) s\. Clients", proxies.RETRY_LONGEST),
        ("Control connection", r"had been up for ([0-9]+) s", client_retry.HEALTHY),
        ("Heartbeats", r"has got none for ([0-9]+) intervals", limits.MISSED_HEARTBEATS),
        ("Heartbeats", r"may send ([0-9]+) messages at once", limits.MESSAGE_BURST),
        ("Heartbeats", r"average ([0-9]+) a second", limits.MESSAGE_RATE),
        ("Heartbeats", r"or ([0-9]+) in each heartbeat interval", limits.MESSAGES_PER_HEARTBEAT),
        ("Heartbeats", r"MUST wait for ([0-9]+) s", limits.FLOODED_PAUSE),
        ("Names, sessions and leases", r"did neither .* for ([0-9]+) s", limits.LEASE),
        ("Names, sessions and leases", r"that key \| for ([0-9]+) s", limits.OWNED_LEASE),
        ("Names, sessions and leases", r"has ([0-9]+) s from its next start", limits.OWNED_LEASE),
        ("Assignment (LTP/0.3)", r"so far, ([0-9]+) of", limits.MAX_FIRST),
        ("Assignment (LTP/0.3)", r"max\(([0-9]+) ms", limits.GOT_TIMEOUT * 1000),
        ("Assignment (LTP/0.3)", r"ms, ([0-9]+) round trips", limits.GOT_ROUND_TRIPS),
        ("Assignment (LTP/0.3)", r"at least the last ([0-9]+)", limits.SEEN_IDS),
        ("Assignment (LTP/0.3)", r"`ready` or `failed` for ([0-9]+) s", limits.READY_TIMEOUT),
        ("Assignment (LTP/0.3)", r"from anybody within ([0-9]+) s", limits.POOL_WAIT),
        ("Concurrency (LTP/0.3)", r"a pool of ([0-9]+)", limits.FIRST_CONCURRENCY),
        ("Concurrency (LTP/0.3)", r"windows of ([0-9]+) s", demand.WINDOW),
        ("Concurrency (LTP/0.3)", r"for ([0-9]+) s no window", demand.DECAY_AFTER),
        ("Concurrency (LTP/0.3)", r"has come for ([0-9]+) s", limits.IDLE_TUNNEL),
        ("Concurrency (LTP/0.3)", r"the size becomes ([0-9]+)\.", limits.IDLE_CONCURRENCY),
        ("Concurrency (LTP/0.3)", r"The next one makes it ([0-9]+)", limits.FIRST_CONCURRENCY),
        ("Concurrency (LTP/0.3)", r"above ([0-9]+) for one", limits.TUNNEL_CONCURRENCY),
        ("Concurrency (LTP/0.3)", r"together stays below ([0-9]+)", limits.TOTAL_CONCURRENCY),
        ("Recycling (LTP/0.3)", r"more than ([0-9]+) bytes", limits.MAX_BEHIND_ANSWER),
        ("Recycling (LTP/0.3)", r"not come within ([0-9]+) s", limits.MARK_TIMEOUT),
        ("Recycling (LTP/0.3)", r"no whole request within ([0-9]+) s", limits.ENDED_TIMEOUT),
        ("Errors", r"no whole proxy request within ([0-9]+) s", limits.ENDED_TIMEOUT),
    ],
)
def test_numbers_in_the_prose(title: str, sentence: str, value: float) -> None:
    found = re.search(sentence, " ".join(section(title).split()))
    assert found is not None, sentence
    assert float(found[1]) == value


# States.

ALL_STATE_ROWS = rows(TEXT, "LTP", "State", "Message", "Sent by", "Next state")
END_MARKS = ("0.3", "`joined`", "The end marks of both directions", "either", "`ended`")
"""The one step that no message makes, so that the tables in the code do not have it."""

STATE_ROWS = [row for row in ALL_STATE_ROWS if row != END_MARKS]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_state_tables(version: Version) -> None:
    found = [row for row in STATE_ROWS if version in SPOKEN_IN[row[0]]]
    in_document = {(State(code(state)), TITLES[title], State(code(after))) for _, state, title, _, after in found}
    in_code = {(state, kind, after) for state, row in TABLES[version].items() for kind, after in row.items()}
    assert in_document == in_code
    assert len(found) == len(in_code)


def test_only_end_marks_lead_to_ended() -> None:
    assert END_MARKS in ALL_STATE_ROWS
    assert not any(State.ENDED in row.values() for table in TABLES.values() for row in table.values())


def test_who_sends_each_message() -> None:
    for version, _, title, sender, _ in STATE_ROWS:
        if TITLES[title] in HEARTBEATS and version == "0.3":
            assert sender == "either"
        elif TITLES[title] in HEARTBEATS:
            assert sender == {"Ping": "server", "Pong": "client"}[title]
        else:
            assert sender == ("client" if TITLES[title] in messages.FromClient.__args__ else "server"), title


# Messages.

MESSAGE_ROWS = rows(TEXT, "Message", "LTP", "Field", "Its value", "Sent by")


def test_the_list_of_messages() -> None:
    assert [row[0] for row in MESSAGE_ROWS] == list(TITLES)
    for title, spoken_in, field, value, _ in MESSAGE_ROWS:
        wire = json.loads(codec.encode(EXAMPLES[title])[4:])
        assert code(field) in wire
        assert isinstance(EXAMPLES[title], TITLES[title])
        if value.startswith("`"):
            assert wire == {code(field): json.loads(code(value))}
        used_in = {version for version in VERSIONS if any(TITLES[title] in row for row in TABLES[version].values())}
        assert used_in == SPOKEN_IN[spoken_in]


SECTIONS = {
    "Control request": (
        "Control request",
        {"instance", "kind", "port", "resume", "auth", "owner", "takeover", "options", "recycle"},
    ),
    "Control reply": (
        "Control reply",
        {"url", "session", "heartbeat", "auth", "options", "also", "real_ip", "recycle"},
    ),
    "Proxy request": ("Proxy request", {"session", "delivered"}),
    "Assigned and assignment": ("Assignment", {"id", "peer", "kind"}),
    "Got, ready and failed (LTP/0.3)": ("Failed", {"id", "error"}),
    "Error": ("Error", {"names"}),
}
"""Which message a section's table of fields is of, and which of the fields LTP/0.3 alone has."""

FIELD_COLUMNS = ("Field", "LTP", "Type", "Required", "Limit", "Meaning")

DEMANDED_IN = {
    ("Control request", "instance"): "in 0.3",
    ("Control reply", "session"): "in 0.3",
    ("Proxy request", "client"): "in 0.2",
    ("Proxy request", "session"): "in 0.3",
}


@pytest.mark.parametrize("title", SECTIONS)
def test_fields(title: str) -> None:
    table = rows(section(title), *FIELD_COLUMNS)
    message, new = SECTIONS[title]
    struct: Any = type_info(TITLES[message])
    assert [code(row[0]) for row in table] == [field.name for field in struct.fields]
    for row, field in zip(table, struct.fields, strict=True):
        kind, bounds = describe(field.type)
        required = DEMANDED_IN.get((message, field.name), "yes" if field.required else "no")
        assert row[1:5] == ("0.3" if field.name in new else "both", kind, required, bounds), field.name


@pytest.mark.parametrize(("version", "lacking"), [(LTP_0_2, "client"), (LTP_0_3, "session"), (LTP_0_3, "instance")])
def test_what_a_version_demands(version: Version, lacking: str) -> None:
    complete = (
        messages.ControlRequest("demo", "c", instance="i"),
        messages.ProxyRequest("demo", "c", SESSION),
    )
    for message in complete:
        codec.check_fields(message, version)
    request = complete[0] if lacking == "instance" else complete[1]
    with pytest.raises(MessageError, match=lacking):
        codec.check_fields(msgspec.structs.replace(request, **{lacking: None}), version)


def describe(kind: Any) -> tuple[str, str]:
    """Return the words of the table for a type, and for its limit."""
    match kind:
        case msgspec.inspect.UnionType(types):
            inner = [member for member in types if not isinstance(member, msgspec.inspect.NoneType)]
            assert kind.includes_none
            assert len(inner) == 1
            words, bounds = describe(inner[0])
            return words.replace(" or ", ", ") + " or null", bounds
        case msgspec.inspect.LiteralType(values):
            return " or ".join(f'`"{value}"`' for value in values), ""
        case msgspec.inspect.BoolType():
            return "boolean", ""
        case msgspec.inspect.FloatType(gt=gt):
            return "number", f"above {gt}"
        case msgspec.inspect.IntType(ge=ge, le=le, lt=lt):
            most = le if le is not None else lt - 1 if lt is not None else None
            return "integer", f"at least {ge}" if most is None else f"{ge} to {most}"
        case msgspec.inspect.StrType(min_length=least, max_length=most):
            return "string", "" if most is None else f"{least} to {most}" if least else str(most)
        case msgspec.inspect.BoolType():
            return "boolean", ""
        case msgspec.inspect.DictType():
            return "object", ""
        case msgspec.inspect.VarTupleType(msgspec.inspect.StrType(max_length=longest), max_length=most):
            return "array of strings", "" if most is None else f"{most} of {longest}"
    raise AssertionError(f"no words for {kind}")


def test_options() -> None:
    table = rows(section("Options (LTP/0.3)"), "Option", "Type", "Limit", "What the server does")
    struct: Any = type_info(options.Options)
    assert [(code(row[0]), row[1], row[2]) for row in table] == [
        (field.name, *describe(field.type)) for field in struct.fields
    ]
    assert not any(field.required for field in struct.fields)


def test_error_codes() -> None:
    table = rows(section("Errors"), "Code", "Sent when", "What the client does")
    in_code = {
        messages.UNAVAILABLE,
        messages.EXPIRED,
        messages.EXCEPTION,
        messages.VERSION,
        messages.PORT_REFUSED,
        messages.AUTH_REQUIRED,
        messages.AUTH_FAILED,
        messages.TOKEN_EXPIRED,
        messages.AUTH_THROTTLED,
        messages.TLS_REQUIRED,
        messages.NOT_ALLOWED,
        messages.LIMIT_REACHED,
        messages.KICKED,
        messages.OPTION_REFUSED,
        messages.INVALID_REQUEST,
        messages.FLOODED,
    }
    assert {code(row[0]) for row in table} == in_code


def test_the_token_of_the_example() -> None:
    found = re.search(r"^```token\n(\w+)\n```", section("Logging in (LTP/0.3)"), re.MULTILINE)
    assert found is not None
    digest = base64.b64encode(bytes(range(32))).decode().rstrip("=")
    assert token.parse(found[1]) == token.Token("u2fhw6eu", "3pxwfausv4goidx75vzcfjpvly", f"SHA256:{digest}")


def test_the_numbers_of_json_are_read_as_the_document_says() -> None:
    for written in (b"5.0", b"5e0"):
        with pytest.raises(MessageError):
            codec.decode_from_server(b'{"concurrency":%b}' % written)
        assert codec.decode_from_server(b'{"drain":%b}' % written) == messages.Drain(5)
    assert codec.decode_from_server(b'{"drain":5}') == messages.Drain(5)
    assert codec.decode_from_server(b'{"drain":5,"drain":6}') == messages.Drain(6)


def test_words_of_failed() -> None:
    table = rows(section("Words of `failed` (LTP/0.3)"), "Word", "The client found", "An HTTP visitor gets")
    assert [code(word) for word, _, _ in table] == ["refused", "timeout", "unreachable", "closed", messages.SEEN]
    for word, _, answer in table[:-1]:
        error = upstream_error(code(word))
        assert answer == f"{error.status} `{error.code}`"
    assert upstream_error("something else").code == "upstream_unreachable"


def test_versions() -> None:
    table = rows(section("Versions"), "Header", "Status", "What it has")
    assert [code(row[0]) for row in table if row[1] == "spoken"] == [str(version) for version in VERSIONS]


# LTP/0.2 in the appendix.

LEGACY = TEXT.split("\n## Appendix C. LTP/0.2\n")[1].split("\n## ")[0]


def test_the_appendix_is_of_one_version_and_demands_nothing_of_its_own() -> None:
    assert "0.3" not in LEGACY
    assert not re.search(r"\b(MUST|SHOULD|MAY)\b", LEGACY)


def test_the_states_of_the_appendix() -> None:
    found = rows(LEGACY, "State", "Message", "Next state")
    in_document = [(State(code(state)), TITLES[title], State(code(after))) for state, title, after in found]
    in_code = [(state, kind, after) for state, row in TABLES[LTP_0_2].items() for kind, after in row.items()]
    assert in_document == in_code


def test_the_messages_of_the_appendix() -> None:
    found = rows(LEGACY, "Message", "Sent by", "Payload")
    spoken = {title: row for title, version, *row in MESSAGE_ROWS if LTP_0_2 in SPOKEN_IN[version]}
    assert {title for title, _, _ in found} == set(spoken)
    for title, sender, payload in found:
        field, value, sent_by = spoken[title]
        assert sent_by.partition(",")[0] == sender
        assert payload.startswith(f'`{{"{code(field)}": ')
        assert not value.startswith("`") or payload == f'`{{"{code(field)}": {code(value)}}}`'


def test_the_fields_of_the_appendix() -> None:
    found = {row[:5] for row in rows(LEGACY, "Message", "Field", "Type", "Required", "Limit", "Meaning")}
    in_text = set()
    for title, (message, _) in SECTIONS.items():
        for field, version, kind, required, bounds, _ in rows(section(title), *FIELD_COLUMNS):
            if version == "both" and required == "in 0.2":
                in_text.add((message, field, kind.removesuffix(" or null"), "yes", bounds))
            elif version == "both":
                in_text.add((message, field, kind, required, bounds))
    assert found == in_text


LIMITS_0_2 = {
    "from accepting a connection to its whole first message": limits.PREAMBLE_TIMEOUT,
    "from a ping to its pong": limits.HEARTBEAT_TIMEOUT,
    "a client's patience without any message on the control connection": limits.CLIENT_HEARTBEAT_TIMEOUT,
}
"""Those that the table of both versions has in other words."""


def test_the_limits_of_the_appendix() -> None:
    found = rows(LEGACY, "What is bounded", "LTP/0.2")
    assert {what: number_of(value) for what, value in found} == {
        what: LIMITS_0_2.get(what, LIMITS.get(what)) for what, _ in found
    }
    assert len(found) == 9


def test_the_codes_of_the_appendix() -> None:
    found = [code(row[0]) for row in rows(LEGACY, "Code", "Sent when", "What the client does")]
    assert found == [messages.UNAVAILABLE, messages.EXPIRED, messages.EXCEPTION, messages.VERSION]
