"""The pages themselves: their links lead somewhere, and the picture in them is that of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("tests/*/*.md")],
    key=lambda path: path.relative_to(ROOT),
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(path: Path) -> set[str]:
    """Return what a link into a page may name: its headings, spelled as GitHub does."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


@every_page
def test_every_link_leads_somewhere(path: Path) -> None:
    for pair in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
        target = "".join(pair)
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def test_the_picture_is_that_of_the_code() -> None:
    script = ROOT / "tools" / "architecture.py"
    drawn = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, timeout=60).stdout
    assert (ROOT / "docs" / "architecture.svg").read_bytes() == drawn, (
        "imports between rooms have changed: look whether they should, then run `tools/architecture.py "
        ">docs/architecture.svg`"
    )
