"""The bounds that bench/wan holds: what a visitor waits when the laptop is 100 ms away."""

import os
import shutil
import subprocess
import sys

import pytest
from harness import ROOT

RUNS = 2
"""Runs of which one has to hold every bound: they are about the program, and the machine may be busy with others."""

CAP = 60.0
"""Seconds that one run may take; it takes 20."""


# Its bounds are times, which a busy or slow machine exceeds: `make bench` and `pytest -m bench` hold them.
@pytest.mark.bench
@pytest.mark.timeout(RUNS * CAP + 10)
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="the delayed wire needs /dev/net/tun")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="network namespaces need unshare, of util-linux")
def test_visitors_far_from_the_laptop_wait_no_longer_than_promised() -> None:
    for run in range(1, RUNS + 1):
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / "wan.py"), "--ours"], capture_output=True, text=True, timeout=CAP
        )
        if done.returncode == 0:
            return
        print(f"run {run}:\n{done.stdout}{done.stderr}")
    pytest.fail(f"no run of {RUNS} held every bound; the tables are above")
