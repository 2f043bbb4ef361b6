"""Make what a script can make of PROTOCOL.md, and put it where it belongs.

usage: .venv/bin/python tools/protocol.py [--check]

The pictures of the states (docs/protocol-*.svg) come from the tables in the code, the
sequences in PROTOCOL.md from its example sessions, and the JSON Schema of the messages
(docs/ltp-0.3.schema.json) from their types. --check changes nothing: it names what is
not as it would be made, and fails if there is any.
"""

import json
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from localtunnel.protocol import messages
from localtunnel.protocol.options import Options
from localtunnel.protocol.states import CONTROL_0_2, CONTROL_0_3, PROXY_0_2, PROXY_0_3, START, State, Table, advance
from localtunnel.protocol.version import LTP_0_3
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.stream import END

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "PROTOCOL.md"

# --- Pictures of states ---

PICTURES = {
    "protocol-control.svg": [CONTROL_0_3],
    "protocol-proxy.svg": [PROXY_0_3],
    "protocol-0.2.svg": [CONTROL_0_2, PROXY_0_2],
}
"""The tables in each picture, one below the other."""

MARKS = (State.JOINED, State.ENDED)
"""The one step that no message makes, where the table has both states."""

STYLE = """
text { font: 13px sans-serif; fill: #57606a; }
text.state { font-weight: bold; fill: #1b1f24; }
text.client { fill: #0a53be; }
text.server { fill: #1a7f37; }
text.middle, text.state { text-anchor: middle; }
rect { rx: 5px; fill: #f3f6f9; stroke: #8c959f; }
path { fill: none; stroke: #57606a; marker-end: url(#head); }
"""

LEGEND = {"client": "sent by the client", "server": "sent by the server", "either": "by either or both"}

BOX, GAP, HEIGHT, LINE = 92, 124, 30, 16
"""Width of a state, the space to the next one, the height of both, and that of a line of text."""

FALL = 88
"""From a state to the bar below all of them, which is the end."""

Word = tuple[str, str]
"""A message by the name that it has in PROTOCOL.md, and who sends it."""


class Step(NamedTuple):
    """An arrow between two states, and every message that leads along it."""

    start: State
    end: State
    words: tuple[Word, ...]


def word(kind: type, table: Table) -> Word:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).capitalize().replace("Error reply", "Error")
    if kind in (messages.Ping, messages.Pong) and State.PINGED in table:
        return name, "server" if kind is messages.Ping else "client"
    groups = {"client": messages.FromClient.__args__, "server": messages.FromServer.__args__}
    senders = [sender for sender, kinds in groups.items() if kind in kinds]
    return name, senders[0] if len(senders) == 1 else "either"


def steps_of(table: Table) -> list[Step]:
    """Return the arrows of one table, and of the first message that leads to it."""
    found: dict[tuple[State, State], list[Word]] = {}
    for start, row in {**START, **table}.items():
        for kind, end in row.items():
            if end in table or end is State.CLOSED:
                found.setdefault((start, end), []).append(word(kind, table))
    if set(MARKS) <= set(table):
        found[MARKS] = [("Both end marks", "either")]
    return [Step(*ends, tuple(words)) for ends, words in found.items()]


def texts(words: tuple[Word, ...], x: float, bottom: float, kind: str = "") -> Iterator[str]:
    """Draw one line for each message, of which the last stands at ``bottom``."""
    for line, (name, sender) in enumerate(reversed(words)):
        yield f'<text class="{sender}{kind}" x="{x:.0f}" y="{bottom - line * LINE:.0f}">{escape(name)}</text>'


def draw(table: Table, y: float) -> tuple[list[str], float, float]:
    """Draw one table below ``y``: its states side by side, and the end below. Return width and lower edge too."""
    states = [state for state in State if state is State.START or state in table]
    place = {state: number for number, state in enumerate(states)}
    steps = steps_of(table)
    bows = {step: 0.0 for step in steps if step.end is not State.CLOSED and place[step.end] - place[step.start] != 1}
    for step in bows:
        bows[step] = 44.0 + 12 * abs(place[step.end] - place[step.start])
    top = y + max((0.75 * bow + 8 + LINE * len(step.words) for step, bow in bows.items()), default=LINE)
    width = (BOX + GAP) * len(states) - GAP
    body = []
    for step in steps:
        left = (BOX + GAP) * place[step.start]
        middle = left + BOX / 2
        if step.end is State.CLOSED:
            body.append(f'<path d="M{middle:.0f},{top + HEIGHT:.0f} V{top + HEIGHT + FALL:.0f}"/>')
            body += texts(step.words, middle + 8, top + HEIGHT + 4 + LINE * len(step.words))
        elif step in bows:
            other, bow = (BOX + GAP) * place[step.end] + BOX / 2, bows[step]
            apart = 16 if other == middle else 30 if other > middle else -30
            start, end = (middle + apart, other - apart) if other != middle else (middle - apart, middle + apart)
            height = top - bow
            curve = f"M{start:.0f},{top:.0f} C{start:.0f},{height:.0f} {end:.0f},{height:.0f} {end:.0f},{top:.0f}"
            body.append(f'<path d="{curve}"/>')
            body += texts(step.words, (middle + other) / 2, top - 0.75 * bow - 6, " middle")
        else:
            body.append(f'<path d="M{left + BOX},{top + HEIGHT / 2:.0f} h{GAP}"/>')
            body += texts(step.words, left + BOX + GAP / 2 - 3, top + HEIGHT / 2 - 6, " middle")
    boxes = [((BOX + GAP) * place[state], top, BOX, state) for state in states]
    for x, above, wide, state in [*boxes, (0, top + HEIGHT + FALL, width, State.CLOSED)]:
        body.append(f'<rect x="{x}" y="{above:.0f}" width="{wide}" height="{HEIGHT}"/>')
        body.append(f'<text class="state" x="{x + wide / 2:.0f}" y="{above + 20:.0f}">{state.value}</text>')
    return body, width, top + 2 * HEIGHT + FALL


def picture(tables: list[Table]) -> str:
    """Return the states of some tables as SVG."""
    body: list[str] = []
    widest, y = 0.0, 8.0
    for table in tables:
        drawn, width, below = draw(table, y)
        body += drawn
        widest, y = max(widest, width), below + 24
    for number, (sender, said) in enumerate(LEGEND.items()):
        body.append(f'<text class="{sender}" x="{number * 170}" y="{y + 4:.0f}">{said}</text>')
    # On the right there is room for what is said at the last state.
    whole, height = f"{widest + 48:.0f}", f"{y + 20:.0f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 0 {whole} {height}" width="{whole}">',
            "<title>The states of a connection; an arrow is a message</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"',
            ' orient="auto"><path style="marker-end: none; stroke: none; fill: #57606a" d="M0,0 L8,4 L0,8 z"/>',
            "</marker></defs>",
            f'<rect style="stroke: none; fill: #ffffff; rx: 0" x="-16" width="{whole}" height="{height}"/>',
            *body,
            "</svg>\n",
        ]
    )


# --- Sequences ---

WIDTH = 80
"""Columns between the lines of client and server."""


class Part(NamedTuple):
    """Some messages of an example session, on one connection of a sequence."""

    connection: str
    session: str
    first: int
    last: int | None


SEQUENCES: dict[str, list[Part | str]] = {
    "resume": [
        Part("A", "control_0_3", 0, 2),
        "The client's network changes. It connects again; the server has not noticed yet.",
        Part("B", "resume_0_3", 0, 1),
        Part("A", "replaced_0_3", 0, None),
        Part("B", "resume_0_3", 1, None),
    ],
    "assignment": [
        Part("A", "proxy_0_3", 0, 1),
        Part("B", "proxy_0_3", 0, 1),
        "A middle box forgets connection A. A visitor comes.",
        Part("A lost", "proxy_0_3", 1, 3),
        "No got comes in time: the same assignment goes out on connection B.",
        Part("B", "proxy_0_3", 1, None),
    ],
    "login": [Part("A", "login_0_3", 0, None)],
    "recycling": [Part("A", "recycled_0_3", 0, None)],
}
"""What is shown: parts of sessions, and sentences between them."""


class Event(NamedTuple):
    """What one side sends; ``kind`` is ``message``, ``header`` or ``stream``."""

    sender: str
    kind: str
    data: bytes


def events(session: str) -> list[Event]:
    """Read an example session. A header goes out with its first message, and a length is no event of its own."""
    found = re.search(rf"^```ltp {session}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None, session
    made: list[Event] = []
    for line in found[1].splitlines():
        if line.startswith("  "):
            sender, kind, data = made.pop()
            made.append(Event(sender, kind, data + bytes.fromhex(line[2:52])))
        else:
            sender, _, meaning = line.partition(": ")
            made.append(Event(sender, "message" if meaning.startswith("{") else meaning.partition(" ")[0], b""))
    return [event for event in made if event.kind not in ("header", "length")]


def shown(event: Event, begins: bool) -> str:
    """Return an event as text that fits between both lines."""
    if event.data == END:
        return "end mark"
    text = event.data.decode("latin-1") if event.kind == "message" else stream_start(event.data)
    text = "LTP/0.3 " * begins + re.sub(r'"([0-9a-f]{4})[0-9a-f]{12,}"', r'"\1…"', text)
    room = WIDTH - 10
    return text if len(text) <= room else f"{text[: room - 37]}…{text[-36:]}"


def stream_start(data: bytes) -> str:
    chunk = data[4:] if int.from_bytes(data[:4], "big") == len(data) - 4 else data
    return f"stream: {chunk.splitlines()[0].decode('latin-1')} …"


def arrow(event: Event, text: str, is_lost: bool) -> str:
    if event.sender == "client":
        return f"-- {text} ".ljust(WIDTH - 1, "-") + ">"
    return ("   x-- " if is_lost else "<-- ") + f"{text} ".ljust(WIDTH - (7 if is_lost else 4), "-")


def sequence(parts: list[Part | str]) -> str:
    """Return a sequence as text: the connection, what passes on it, and its state from then on."""
    lines = [f"   {'client':<{WIDTH}}server  state"]
    states: dict[str, State] = {}
    marked: dict[str, set[str]] = {}
    for part in parts:
        if isinstance(part, str):
            lines += ["", f"   {part}", ""]
            continue
        name, _, lost = part.connection.partition(" ")
        for event in events(part.session)[part.first : part.last]:
            before = states.get(name, State.OPEN if part.session == "replaced_0_3" else State.START)
            after = before
            if event.kind == "message":
                decode = codec.decode_from_client if event.sender == "client" else codec.decode_from_server
                after = advance(LTP_0_3, before, decode(event.data))
                marked[name] = set()
            elif event.data == END:
                marked[name].add(event.sender)
                after = State.ENDED if len(marked[name]) == 2 else before
            text = shown(event, before is State.START)
            lines.append(f"{name}  |{arrow(event, text, bool(lost))}|  {after.value}")
            states[name] = after
    return "\n".join(lines) + "\n"


# --- The schema ---

SCHEMA = "ltp-0.3.schema.json"

KEYS: dict[type, str] = {
    messages.ControlRequest: "control",
    messages.ControlReply: "control",
    messages.Challenge: "challenge",
    messages.Proof: "proof",
    messages.ProxyRequest: "proxy",
    messages.Assignment: "proxy",
    messages.Got: "got",
    messages.Ready: "ready",
    messages.Failed: "failed",
    messages.Ping: "control",
    messages.Pong: "control",
    messages.Concurrency: "concurrency",
    messages.Notice: "notice",
    messages.Drain: "drain",
    messages.Replaced: "replaced",
    messages.Release: "release",
}
"""The one top-level field of each message but the error, which has no object of its own."""

WORDS: dict[type, object] = {messages.Ping: "ping", messages.Pong: "pong", messages.Release: True}
"""What it holds in messages that say nothing more."""

DEMANDED: dict[type, str] = {
    messages.ControlRequest: "instance",
    messages.ControlReply: "session",
    messages.ProxyRequest: "session",
}
"""What LTP/0.3 requires and LTP/0.2 does not have, so that the types leave it open."""

TABLES_OF_FIELDS = {
    messages.ControlRequest: "### 7.2 ",
    messages.ControlReply: "### 7.3 ",
    messages.ProxyRequest: "### 7.4 ",
    messages.Assignment: "### 7.5 ",
    messages.ErrorReply: "### 7.7 ",
    messages.Failed: "### 7.8 ",
}
"""Where PROTOCOL.md says what the fields of a message mean."""

CANNOT_SAY = (
    "Messages of LTP/0.3, made by tools/protocol.py. Where it says less than PROTOCOL.md, that holds: no field comes "
    "twice, an integer has neither fraction nor exponent, and the message nests no more than 8 levels deep."
)


def meanings(heading: str) -> dict[str, str]:
    """Return what the fields in one section's table mean."""
    _, _, text = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}")
    return dict(re.findall(r"^\| `(\w+)` \|(?:[^|\n]*\|){4} ([^|\n]+) \|$", text.partition("\n### ")[0], re.MULTILINE))


def object_of(kind: type) -> dict[str, Any]:
    """Return the schema of an object with a message's fields."""
    found: dict[str, Any] = msgspec.json.schema_components([kind])[1][kind.__name__]
    fields, required = found["properties"], found["required"]
    if kind in DEMANDED:
        # The first alternative is the type itself, the second one null.
        fields[DEMANDED[kind]] = fields[DEMANDED[kind]]["anyOf"][0]
        required = [*required, DEMANDED[kind]]
    if kind in TABLES_OF_FIELDS:
        told = meanings(TABLES_OF_FIELDS[kind])
        fields = {name: {"description": told[name], **schema} for name, schema in fields.items()}
    return {"type": "object", "required": required, "properties": fields}


def definition(kind: type, title: str) -> dict[str, Any]:
    """Return the schema of a whole message."""
    if kind is messages.ErrorReply:
        return {"title": title, **object_of(kind)}
    names = msgspec.structs.fields(kind)
    if kind in WORDS:
        value: dict[str, Any] = {"const": WORDS[kind]}
    elif len(names) == 1:
        value = object_of(kind)["properties"][names[0].name]
    else:
        value = object_of(kind)
    return {"title": title, "type": "object", "required": [KEYS[kind]], "properties": {KEYS[kind]: value}}


def one_of(kinds: list[type]) -> dict[str, Any]:
    """Return the schema of any of these messages: one top-level field, and the shape of one that has it."""
    keys = list(dict.fromkeys(KEYS[kind] for kind in kinds))
    return {
        "oneOf": [{"required": [key]} for key in keys],
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
    }


def schema() -> str:
    """Return the JSON Schema of every message of LTP/0.3."""
    client: list[type] = list(messages.FromClient.__args__)
    server = [kind for kind in messages.FromServer.__args__ if kind in KEYS]
    options = object_of(Options)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LTP/0.3",
        "description": CANNOT_SAY,
        "anyOf": [{"$ref": "#/$defs/FromClient"}, {"$ref": "#/$defs/FromServer"}],
        "$defs": {
            "FromClient": one_of(client),
            "FromServer": {
                "if": {"required": ["error"]},
                "then": {"$ref": "#/$defs/ErrorReply"},
                "else": one_of(server),
            },
            **{
                kind.__name__: definition(kind, word(kind, {})[0])
                for kind in dict.fromkeys([*client, *server, messages.ErrorReply])
            },
            "Options": {"title": "Options of a tunnel", **options, "additionalProperties": False},
        },
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


# --- Putting it in its place ---


def made() -> Iterator[tuple[Path, str]]:
    """Yield every file, and what it has to be."""
    for name, tables in PICTURES.items():
        yield ROOT / "docs" / name, picture(tables)
    yield ROOT / "docs" / SCHEMA, schema()
    page = PAGE.read_text(encoding="utf-8")
    for name, parts in SEQUENCES.items():
        before, fence, rest = page.partition(f"\n```sequence {name}\n")
        assert fence, f"PROTOCOL.md has no place for the sequence {name!r}"
        page = before + fence + sequence(parts) + rest[rest.index("```") :]
    yield PAGE, page


def main() -> None:
    changed = [(path, text) for path, text in made() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.exit(
            "".join(f"{path.relative_to(ROOT)} is not as tools/protocol.py makes it.\n" for path, _ in changed) or 0
        )
    for path, text in changed:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
