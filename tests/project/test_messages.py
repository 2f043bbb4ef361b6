"""What users read: every message in the package is plain English, and counts are right for one as well."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.places import ROOT

PACKAGE = ROOT / "localtunnel"

UNWANTED = {
    r"\b[Ww]hoever\b|\b[Ss]omebody\b|\b[Nn]obody\b|\b[Ee]verybody\b": "name the client, the visitor or the operator",
    r"(?<!here )\b(?:is|are) no (?!longer\b)": "write is not a",
    r"\bfor ever\b": "write forever",
    r"\bmeanwhile\.|\bon its way\b|\bGo on\b": "write in the meantime, in flight, Continue",
    r"\bthe server's owner\b|\bThe owner of (?:this|the) server\b": "write operator: owners have names",
    r"\bas many .{1,40} as (?:it|they|you) (?:may|takes?|can)\b": "write that the limit is reached",
    r"\bother[s]? than its owner\b": "write other users than its owner",
    r"\{\w*(?:count|limit|most|number|dropped)\w*\} [a-z]+s\b": "a count of 1 has no plural; write the number last",
}
"""What was found in messages and does not belong into one, and what to write instead."""

PAGES = {"http/pages/errors.py", "http/pages/own.py", "http/pages/warning.py", "http/pages/document.py"}
"""Pages are HTML; their words are looked at in their own tests."""


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every text of at least three words that is no docstring, with ``{…}`` for what is put in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in documentation or id(node) in parts:
            continue
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in ast.walk(node)}
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if text.count(" ") >= 2:
            yield node.lineno, text


FILES = sorted(path for path in PACKAGE.rglob("*.py") if str(path.relative_to(PACKAGE)) not in PAGES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_are_plain_english(path: Path) -> None:
    for line, text in messages(path):
        for pattern, advice in UNWANTED.items():
            found = re.search(pattern, text)
            assert found is None, f"{path.name}:{line}: {found[0]!r}: {advice}: {text}"


def test_messages_are_found() -> None:
    found = [text for path in FILES for _, text in messages(path)]
    assert len(found) > 300
    assert any(text.startswith("This server requires a token.") for text in found)
