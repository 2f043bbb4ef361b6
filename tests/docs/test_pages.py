"""The pages themselves: their links lead somewhere, and the picture in them is that of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("tests/**/README.md")],
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


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page.name != "PROTOCOL.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_page_has_88_columns(path: Path) -> None:
    """Tables may be wider, and what cannot be broken."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.removeprefix("  ").removeprefix("- ")
        assert len(line) <= 88 or line.startswith("|") or " " not in words, line


@every_page
def test_every_module_that_a_page_names_is_there(path: Path) -> None:
    parts = "|".join(part.name for part in (ROOT / "localtunnel").iterdir() if (part / "__init__.py").exists())
    for module in re.findall(rf"`(?:localtunnel/)?((?:{parts})/[a-z_/]+)", path.read_text(encoding="utf-8")):
        place = ROOT / "localtunnel" / module
        assert place.is_dir() or place.with_suffix(".py").exists(), module


@every_page
def test_every_test_that_a_page_names_is_there(path: Path) -> None:
    for name in re.findall(r"`([a-z_/]+/test_[a-z0-9_]+\.py)", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "tests" / name).exists(), name


def test_every_decision_is_in_the_list_by_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^- \[([^\]]+)\]\(([^)]+)\)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in folder.glob("[a-z]*.md")}
    assert sorted((name, f"# {' '.join(title.split())}") for title, name in listed) == sorted(titles.items())


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/decisions/[a-z]*.md")), ids=lambda path: path.stem)
def test_a_decision_is_half_a_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    told = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
    assert told in (["Context", "Decision"], ["Context", "Decision", "Measured"])
    assert len(text.splitlines()) <= 45


def test_the_picture_is_that_of_the_code() -> None:
    script = ROOT / "tools" / "architecture.py"
    drawn = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, timeout=60).stdout
    assert (ROOT / "docs" / "architecture.svg").read_bytes() == drawn, (
        "imports between rooms have changed: look whether they should, then run `tools/architecture.py "
        ">docs/architecture.svg`"
    )
