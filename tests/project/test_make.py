"""The commands of the Makefile: what they leave alone, and what they say about programs that are missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import installed as places
from harness.installed import installed
from harness.places import ROOT
from hypothesis import settings

DEPS = (ROOT / "tools" / "deps").read_text()
PROGRAMS = set(re.findall(r"^([a-z0-9-]+):[a-z0-9-]+$", DEPS, re.MULTILINE))


def test_no_example_of_hypothesis_has_a_deadline_of_its_own():
    assert settings().deadline is None


def test_a_program_that_is_missing_is_a_skip_that_says_what_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="nginx is not installed; make deps installs it"):
        installed("nginx")


def test_make_deps_installs_every_program_that_a_test_asks_for():
    asked = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r'\binstalled\("([^"]+)"\)', path.read_text())
        if path != Path(__file__)
    }
    assert asked >= {"nginx", "curl", "chromium"}
    assert asked <= PROGRAMS


def test_what_is_missing_is_said_and_is_no_failure(tmp_path):
    for tool in ("sh", "id"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}")
    done = subprocess.run(
        [ROOT / "tools" / "deps", "missing"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"Tests were skipped .* make deps \(as root\) would add: .*\bcurl\b.*\n", done.stderr)


def test_make_test_installs_no_package():
    """It would change the machine of whoever runs it, and need root for that."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "test"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "tools/test" in done.stdout
    assert not re.search(r"tools/deps|apt-get|sudo", done.stdout)


def test_the_programs_of_make_test_have_a_home_that_goes_with_them(tmp_path):
    """The script runs in another clone, on a Python that writes into its home and says where that is."""
    clone, mine, temporary = tmp_path / "clone", tmp_path / "home", tmp_path / "tmp"
    for directory in (clone / "tools", clone / ".venv" / "bin", mine, temporary):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "test", clone / "tools")
    for script, line in (
        (clone / "tools" / "deps", "exit 0"),
        (clone / ".venv/bin/python", 'echo "$HOME" | tee "$HOME/it"'),
    ):
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(mine), "TMPDIR": str(temporary)}
    done = subprocess.run([clone / "tools" / "test"], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    (home,) = set(done.stdout.split())
    assert Path(home).is_relative_to(temporary)
    assert list(mine.iterdir()) == list(temporary.iterdir()) == []


def test_the_integration_runs_each_part():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == [
        "make deps",
        "make lint",
        "make test",
        "make test-pythons",
    ]
