"""bench/compare and bench/stress run from end to end: in quick mode, whose figures mean nothing."""

import shutil
import subprocess
import sys

import pytest
from figures import BESIDE_P99, PIECES, RATES, REDIALS, SHRUNK_KIB, TUNNEL_KIB
from harness import ROOT
from programs import find
from redials import FULL, PLAIN, RESUMED
from tables import COMES_BACK

CAP = 240.0
"""Seconds that a quick run may take; it takes 30 to 130, with what the machine has installed."""

needs_load = pytest.mark.skipif(find("nginx") is None or shutil.which("wrk") is None, reason="needs nginx and wrk")
needs_slow_visitors = pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="needs slowhttptest")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=CAP)


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(CAP + 10)
@needs_load
def test_the_comparison_measures_every_mode_of_ours_from_end_to_end() -> None:
    done = run("compare.py", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    rates = next(number for number, row in enumerate(rows) if row == ["system", *RATES])
    measured = {row[0]: row[1:] for row in rows[rates + 2 :]}
    for mode in ("join", "http", "join, TLS", "http, TLS"):
        assert all(cell[:1].isdigit() for cell in measured[f"localtunnel, {mode}"])
    assert next(iter(measured)) == "localtunnel, http, TLS"
    redials = next(number for number, row in enumerate(rows) if row[1:2] == [REDIALS])
    assert [row[0] for row in rows[redials + 2 : redials + 6]] == [RESUMED, FULL, PLAIN, COMES_BACK]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows[redials + 2 : redials + 6])
    memory = next(number for number, row in enumerate(rows) if row[-2:] == [TUNNEL_KIB, SHRUNK_KIB])
    assert all(float(row[-1]) > 0 for row in rows[memory + 2 : memory + 4])
    flood = next(number for number, row in enumerate(rows) if BESIDE_P99 in row)
    assert [row[0] for row in rows[flood + 2 : flood + 4]] == ["localtunnel, http, TLS", "localtunnel, join, TLS"]
    pieces = next(number for number, row in enumerate(rows) if row[1:2] == [PIECES])
    assert len(rows[pieces + 2 :]) == 3
    assert all(float(row[1]) > 0 for row in rows[pieces + 2 :])


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(CAP + 10)
@needs_load
@needs_slow_visitors
def test_the_stress_test_tries_everything_in_both_modes() -> None:
    done = run("stress.py", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    for mode in ("join", "http"):
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"localtunnel, {mode}, TLS, ")]
        assert len(lines) == 5


@pytest.mark.parametrize("peer", ["", "=127.0.0.1:1", "frp=127.0.0.1", "frp=:1", "frp=127.0.0.1:port"])
def test_a_peer_without_its_parts_is_refused(peer: str) -> None:
    done = run("compare.py", "--quick", f"--peer={peer}")
    assert done.returncode == 2
    assert "is not NAME=HOST:PORT." in done.stderr


def test_an_upload_needs_its_peer() -> None:
    done = run("compare.py", "--quick", "--peer-upload=frp=127.0.0.1:1")
    assert done.returncode == 2
    assert "for which there is no --peer" in done.stderr
