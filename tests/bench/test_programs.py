"""What benchmarks are given for the programs that they run."""

import subprocess
import sys

from harness import ROOT
from programs import unused_port


def test_no_two_processes_are_given_the_same_port() -> None:
    port = unused_port()
    command = [sys.executable, "-c", "import programs; print(programs.unused_port())"]
    done = subprocess.run(command, cwd=ROOT / "bench", capture_output=True, text=True, check=True, timeout=30)
    assert int(done.stdout) != port
