"""What a script makes of PROTOCOL.md is as it makes it: the pictures of the states, and the sequences."""

import subprocess
import sys

from harness import ROOT


def test_everything_is_as_it_would_be_made() -> None:
    command = [sys.executable, str(ROOT / "tools" / "protocol.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (
        f"{done.stderr}Look whether it should have changed, then run `.venv/bin/python tools/protocol.py`."
    )


def test_every_picture_is_shown() -> None:
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("protocol-*.svg"):
        assert f"](docs/{path.name})" in text
