"""Holds the grammar and the schema of PROTOCOL.md to its example sessions and to the vectors."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness import ROOT
from harness.vector_items import load, to_bytes

from localtunnel.protocol.messages import FromClient, FromServer
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.stream import END, chunked

TEXT = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")


# The grammar.


def rules() -> dict[str, str]:
    """Return the rules of the grammar by their names, without comments."""
    found = re.search(r"^```abnf\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    lines = [line.partition(";")[0].strip() for line in found[1].splitlines()]
    return dict(re.split(r"\s+=\s+", line) for line in lines if line)


def name_of(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower().replace("error-reply", "error")


RULES = rules()
CORE = {"OCTET": r"[\x00-\xff]", "DIGIT": "[0-9]"}
MESSAGES = {name_of(kind): f"<{name_of(kind)}>" for kind in (*FromClient.__args__, *FromServer.__args__)}
WHOLE = {**MESSAGES, "header": "<header>", "stream": "(?:<stream>)?"}
"""What is one piece where the order of messages matters: in an example a stream may be empty."""

TOKEN = re.compile(r"%x[0-9A-F.]+|[0-9]*\*|[0-9]+|[A-Za-z][A-Za-z-]*|[\[\]()/]")


def pattern(rule: str, known: dict[str, str]) -> str:
    """Return the regular expression of a rule; ``known`` has those of the rules that are not looked into."""
    if rule in known:
        return known[rule]
    made = repeat = ""
    behind: list[str] = []
    for token in TOKEN.findall(RULES[rule]):
        if token[0].isdigit() or token == "*":
            least = token.rstrip("*") or "0"
            repeat = f"{{{least},}}" if token.endswith("*") else f"{{{least}}}"
            continue
        if token in "([":
            made += "(?:"
            behind.append("?" if token == "[" else repeat)
        elif token in ")]":
            made += ")" + behind.pop()
        elif token == "/":
            made += "|"
        elif token.startswith("%x"):
            made += re.escape(bytes.fromhex(token[2:].replace(".", "")).decode("latin-1"))
        else:
            made += f"(?:{pattern(token, known)}){repeat}"
        repeat = ""
    return f"(?:{made})"


def matches(rule: str, text: str, known: dict[str, str]) -> bool:
    return re.fullmatch(pattern(rule, known), text, re.DOTALL) is not None


def test_every_rule_is_there_and_every_message_of_0_3_in_a_rule() -> None:
    used = set(re.findall(r"(?<![%A-Za-z0-9.-])[A-Za-z][A-Za-z-]*", " ".join(RULES.values())))
    assert used <= {*RULES, *CORE, *MESSAGES}
    assert set(MESSAGES) - used == {"assigned"}


@pytest.mark.parametrize(
    ("rule", "data", "expected"),
    [
        ("header", b"LTP/0.3", True),
        ("header", b"ltp/0.3", False),
        ("header", b"LTP/0.30", False),
        ("frame", b'\0\0\0\x0a{"got":41}', True),
        ("frame", b"\0\0\0", False),
        ("chunk", chunked(b"abc"), True),
        ("chunk", END, False),
        ("mark", END, True),
        ("stream-in-clear", b"", True),
        ("stream-over-tls", chunked(b"abc") + chunked(b"d") + END, True),
        ("stream-over-tls", END, True),
        ("stream-over-tls", chunked(b"abc"), False),
        ("stream-over-tls", b"", False),
    ],
)
def test_bytes(rule: str, data: bytes, expected: bool) -> None:
    assert matches(rule, data.decode("latin-1"), CORE) is expected


def pieces(session: str) -> dict[str, str]:
    """Return what each side says in an example session, a name in angle brackets for each piece."""
    made: dict[str, list[str]] = {"client": [], "server": []}
    decode = {"client": codec.decode_from_client, "server": codec.decode_from_server}
    for sender, meaning, lines in re.findall(r"^(client|server): (.*)\n((?:  .*\n)+)", session, re.MULTILINE):
        data = bytes.fromhex("".join(line[2:52] for line in lines.splitlines()))
        if meaning.startswith("{"):
            made[sender].append(f"<{name_of(type(decode[sender](data)))}>")
        elif meaning == "header" or (meaning == "stream" and made[sender][-1] != "<stream>"):
            made[sender].append(f"<{meaning}>")
    return {sender: "".join(pieces) for sender, pieces in made.items()}


def sessions() -> Iterator[Any]:
    for name, session in re.findall(r"^```ltp (\w+_0_3)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        # One of them is the end of a session that is shown elsewhere, another one is refused as no message.
        if name not in ("replaced_0_3", "invalid_0_3"):
            yield pytest.param(session, id=name)


@pytest.mark.parametrize("session", list(sessions()))
def test_the_examples(session: str) -> None:
    said = pieces(session)
    on = "control" if "<control-request>" in said["client"] else "proxy"
    for sender, text in said.items():
        assert matches(f"{sender}-on-{on}", text, WHOLE), text


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("client-on-control", "<header><control-request><proof><pong><ping><release>", True),
        ("client-on-control", "<header><control-request><release><ping>", False),
        ("client-on-control", "<control-request>", False),
        ("server-on-control", "<challenge><error>", True),
        ("server-on-control", "<control-reply><drain><notice><concurrency><error>", True),
        ("server-on-control", "<control-reply><replaced><ping>", False),
        ("client-on-proxy", "<header><proxy-request>", True),
        ("client-on-proxy", "<header><proxy-request><got><failed>", True),
        ("client-on-proxy", "<header><proxy-request><got><ready><stream><proxy-request>", True),
        ("client-on-proxy", "<header><proxy-request><got><failed><proxy-request>", False),
        ("client-on-proxy", "<header><proxy-request><ready>", False),
        ("server-on-proxy", "", True),
        ("server-on-proxy", "<assignment><stream><error>", True),
        ("server-on-proxy", "<stream>", False),
    ],
)
def test_the_order_of_messages(rule: str, text: str, expected: bool) -> None:
    assert matches(rule, text, WHOLE) is expected


# The schema.

SCHEMA = json.loads((ROOT / "docs" / "ltp-0.3.schema.json").read_text(encoding="utf-8"))

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    """Tell whether ``value`` has a shape, as far as the keywords of our schema go; another one fails the test."""
    for keyword, said in schema.items():
        match keyword:
            case "$schema" | "$defs" | "title" | "description" | "default" | "then" | "else":
                good = True
            case "$ref":
                good = is_valid(value, SCHEMA["$defs"][said.removeprefix("#/$defs/")])
            case "anyOf":
                good = any(is_valid(value, one) for one in said)
            case "oneOf":
                good = sum(is_valid(value, one) for one in said) == 1
            case "if":
                good = is_valid(value, schema["then" if is_valid(value, said) else "else"])
            case "type":
                good = isinstance(value, KINDS[said]) and (said == "boolean" or not isinstance(value, bool))
            case "const":
                good = value == said and type(value) is type(said)
            case "enum":
                good = value in said
            case "required":
                good = not isinstance(value, dict) or value.keys() >= set(said)
            case "properties" if isinstance(value, dict):
                good = all(is_valid(value[name], one) for name, one in said.items() if name in value)
            case "additionalProperties" if said is False:
                good = value.keys() <= schema["properties"].keys()
            case "items":
                good = not isinstance(value, list) or all(is_valid(one, said) for one in value)
            case "minLength" | "maxLength":
                good = (
                    not isinstance(value, str) or (len(value) >= said) is (keyword == "minLength") or len(value) == said
                )
            case "maxItems":
                good = not isinstance(value, list) or len(value) <= said
            case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
                good = not isinstance(value, int | float) or holds(keyword, value, said)
            case "properties":
                good = True
            case _:
                raise AssertionError(f"the schema has a new keyword: {keyword}")
        if not good:
            return False
    return True


def holds(keyword: str, value: float, bound: float) -> bool:
    if value == bound:
        return not keyword.startswith("exclusive")
    return (value > bound) is keyword.lower().endswith("minimum")


def beyond_a_schema(case: dict[str, Any]) -> bool:
    """Tell whether a vector is about what comes before the shape: JSON itself, depth, the other version."""
    return case.get("refused") == "frame" or case.get("version") == "0.2" or "MAX_DEPTH" in case["why"]


@pytest.mark.parametrize("case", [one for one in load("messages.json") if not beyond_a_schema(one.values[0])])
def test_the_vectors(case: dict[str, Any]) -> None:
    message = json.loads(to_bytes(case["payload"]))
    group = SCHEMA["$defs"]["FromClient" if case["from"] == "client" else "FromServer"]
    # A decoder leaves it to the client whether a reply has the session that LTP/0.3 requires.
    fields = {"session": "", **case.get("message", {})}
    if fields.get("type") == "control_reply" and not fields["session"]:
        message["control"]["session"] = "5e" * 16
        assert not is_valid(json.loads(to_bytes(case["payload"])), group)
    assert is_valid(message, group) is ("message" in case)


def test_the_options() -> None:
    options = SCHEMA["$defs"]["Options"]
    assert is_valid({}, options)
    assert is_valid({"protect": "a:b", "allow_ip": ["::1"], "cors": True}, options)
    assert not is_valid({"protekt": "a:b"}, options)
    assert not is_valid({"allow_ip": ["::1"] * 33}, options)
    assert not is_valid({"request_header_add": ["x" * 1025]}, options)
