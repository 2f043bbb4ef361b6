"""SIGKILL while tokens are made and taken back: the file is whole, and nothing that was acknowledged is lost."""

import re
import subprocess
import sys

import pytest
from harness import ROOT
from harness.places import PROGRAMS

PROGRAM = PROGRAMS / "crash_tokens.py"
ROUNDS = 200


@pytest.mark.slow
def test_two_hundred_crashes(tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), str(ROUNDS)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(rf"{ROUNDS} crashes, (\d+) tokens taken back, nothing lost\n", done.stdout)
    assert found is not None
    assert int(found[1]) >= ROUNDS * 9 // 10
