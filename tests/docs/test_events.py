"""Holds docs/events.md to the code: every event, every field, and every error of a request."""

import json
import re
from typing import Any, get_args

import msgspec
import pytest
from harness.places import ROOT

from localtunnel import errors
from localtunnel.cli.output import Json
from localtunnel.client import events
from localtunnel.client.visits import requests
from localtunnel.client.visits.requests import MAX_PATH

TEXT = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
KINDS = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in get_args(events.Event)}


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/events.md has no section {title!r}"
    return found[1]


def rows(text: str, *columns: str) -> list[list[str]]:
    """Return the rows of the one table in ``text`` with these columns."""
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith(f"| {' | '.join(columns)} |")]
    (table,) = tables
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def documented(title: str) -> dict[str, str]:
    return {name.strip("`"): kind for name, kind, _ in rows(section(title), "Field", "Type", "Meaning")}


def json_type(hint: Any) -> str:
    if hint == tuple[str, ...]:
        return "array of strings"
    parts = get_args(hint) or (hint,)
    return " or ".join(JSON_TYPES[part] for part in parts)


def test_every_event_has_a_section_and_every_section_an_event() -> None:
    assert set(re.findall(r"^### `(\w+)`$", TEXT, re.MULTILINE)) == {*KINDS, "failed"}


@pytest.mark.parametrize("name", KINDS)
def test_the_fields_of_an_event_are_those_of_the_page(name: str) -> None:
    fields = {field.name: json_type(field.type) for field in msgspec.structs.fields(KINDS[name])}
    assert documented(f"`{name}`") == fields


def test_what_every_line_has_and_the_last_one_of_a_failure() -> None:
    lines: list[str] = []
    Json(lines.append).failed("code", "message", 5)
    shared = documented("The events of `lt-client --json`")
    expected = {**shared, **documented("`failed`")}
    assert {name: JSON_TYPES[type(value)] for name, value in json.loads(lines[0]).items()} == expected


def test_the_errors_of_a_request() -> None:
    named = [name.strip("`") for name, _ in rows(section("`request_finished`"), "Error", "Meaning")]
    upstream = [kind.code for kind in errors.UpstreamError.__subclasses__()]
    assert sorted(named) == sorted([*upstream, requests.VISITOR_GONE, requests.STOPPED])


def test_the_longest_path() -> None:
    assert f"at most {MAX_PATH} characters" in section("`request_finished`")
