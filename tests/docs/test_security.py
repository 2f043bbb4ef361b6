"""docs/security.md and CHANGELOG.md: every defence and every cure names a test, and the test is there."""

import ast
import re

import pytest
from harness.places import ROOT, TESTS

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ITEMS = re.compile(r"^- \*\*[^*]+\*\*(?:.*\n(?:  .*\n)*)", re.MULTILINE)
TEST = re.compile(r"^  - `([a-z_/0-9]+/test_[^`]+)`$", re.MULTILINE)


def items(section: str) -> list[str]:
    """Return the items of the lists in a section: an attack, or a way in which a connection changes visitors."""
    (text,) = (part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE) if part.startswith(f"{section}\n"))
    return ITEMS.findall(text)


ATTACKS = items("Attacks and defences")
WAYS = items("Connections that change visitors")
CURED = re.findall(r"`([a-z_/]+/test_[^`]+)`", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))

NAMED = sorted({name for item in ATTACKS + WAYS for name in TEST.findall(item)} | set(CURED))


def test_every_attack_and_every_way_names_a_test():
    assert len(ATTACKS) >= 55
    assert len(WAYS) >= 8
    for item in ATTACKS + WAYS:
        assert TEST.findall(item), item
    assert TEXT.count("/test_") == sum(len(TEST.findall(item)) for item in ATTACKS + WAYS)


@pytest.mark.parametrize("name", NAMED)
def test_each_has_its_test(name):
    file, _, function = name.partition("::")
    if not function:
        assert (TESTS / file).exists()
        return
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
