"""Holds PROTOCOL.md's list of requirements to its text: none is left out, and what holds each of them is there."""

import json
import re
from collections.abc import Iterator

import msgspec
import pytest
from harness import ROOT
from harness.places import TESTS, VECTORS

PAGE = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
TEXT, APPENDIX = PAGE.split("\n## Appendix B. Requirements\n")
APPENDIX = APPENDIX.split("\n## ")[0]

NOT_COUNTED = {"1"}
"""Where the key words are explained."""


class Requirement(msgspec.Struct):
    """An entry of the list."""

    number: str
    section: str
    words: str
    held_by: list[str]


def sections() -> dict[str, str]:
    """Return the text of each section by its number, in one line; what has no number belongs to the one above it."""
    found: dict[str, str] = {}
    here = ""
    for line in re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE).splitlines():
        heading = re.match(r"#+ (?:([0-9.]+?)\.? )?", line)
        if heading is None:
            found[here] = found.get(here, "") + " " + line
        elif line.startswith("## ") or heading[1]:
            here = heading[1] or line
    return {number: " ".join(text.split()) for number, text in found.items()}


def requirements() -> Iterator[Requirement]:
    for entry in re.findall(r"^- (.*?)(?=^- |^#|\Z)", APPENDIX, re.DOTALL | re.MULTILINE):
        found = re.fullmatch(
            r"\*\*([CS][0-9]+)\*\* \(([0-9.]+)[^:]*\): (.*?)\. Held by (.*)\.", " ".join(entry.split())
        )
        assert found is not None, entry
        yield Requirement(found[1], found[2], found[3], [name.strip("`") for name in found[4].split(", ")])


SECTIONS = sections()
REQUIREMENTS = list(requirements())

each = pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.number)


@each
def test_a_requirement_is_in_the_words_of_its_section(requirement: Requirement) -> None:
    assert "MUST" in requirement.words
    assert requirement.words in SECTIONS[requirement.section]


def test_no_requirement_is_left_out() -> None:
    missing = []
    for number, text in SECTIONS.items():
        spans = [
            (found.start(), found.end())
            for requirement in REQUIREMENTS
            if requirement.section == number
            for found in re.finditer(re.escape(requirement.words), text)
        ]
        for found in re.finditer(r"\bMUST\b", text):
            if number not in NOT_COUNTED and not any(start <= found.start() < end for start, end in spans):
                missing.append((number, text[found.start() - 60 : found.end() + 60]))
    assert missing == []


def test_the_numbers_are_given_once() -> None:
    for letter in "CS":
        numbers = [int(one.number[1:]) for one in REQUIREMENTS if one.number.startswith(letter)]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


CASES = {path.name: {case["name"] for case in json.loads(path.read_text())["cases"]} for path in VECTORS.glob("*.json")}


@each
def test_what_holds_a_requirement_is_there(requirement: Requirement) -> None:
    for name in requirement.held_by:
        file, _, what = name.partition("::")
        if file in CASES:
            assert what in CASES[file], name
        else:
            assert f"def test_{what}(" in (TESTS / file).read_text(encoding="utf-8"), name
