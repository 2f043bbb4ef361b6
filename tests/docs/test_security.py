"""docs/security.md and CHANGELOG.md: every defence and every cure names a test, and the test is there."""

import ast
import re

import pytest
from harness.places import ROOT, TESTS

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| (`[a-z_/]+/test_[^|]+`) \|$", TEXT, re.MULTILINE)
WAYS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (`[a-z_/]+/test_[^|]+`) \|$", TEXT, re.MULTILINE)
"""The ways on which a connection changes visitors."""

CURED = re.findall(r"`([a-z_/]+/test_[^`]+)`", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))

NAMED = sorted({name for *_, cell in ROWS + WAYS for name in re.findall(r"`([^`]+)`", cell)} | set(CURED))


@pytest.mark.parametrize(("begun", "rows", "least"), [("| attacker |", ROWS, 20), ("| way |", WAYS, 8)])
def test_the_tables_are_found(begun, rows, least):
    assert len(rows) >= least
    lines = TEXT[TEXT.index(begun) :].partition("\n\n")[0].splitlines()
    assert len(lines) == len(rows) + 2


@pytest.mark.parametrize("name", NAMED)
def test_each_has_its_test(name):
    file, _, function = name.partition("::")
    if not function:
        assert (TESTS / file).exists()
        return
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
