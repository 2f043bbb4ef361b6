"""SIGKILL while something is written: the file is whole, and nothing that was acknowledged is lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT
from harness.places import PROGRAMS

ROUNDS = 200

TAKEN_BACK = ROUNDS // 10 * 18
"""What AWAITED of crash_tokens.py guarantees, 18 in ten rounds. Two writers make and take back by turns: of three or
four lines one tells of a token taken back, of five or six two, of seven or eight three, and of nine four."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "written", "least"),
    [
        ("crash_leases.py", "writes of a name", ROUNDS + 1),
        ("crash_tokens.py", "tokens taken back", TAKEN_BACK),
    ],
    ids=["leases", "tokens"],
)
def test_two_hundred_crashes(tmp_path: Path, program: str, written: str, least: int) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), str(tmp_path), str(ROUNDS)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(rf"{ROUNDS} crashes, (\d+) {written}, nothing lost\n", done.stdout)
    assert found is not None
    assert int(found[1]) >= least
