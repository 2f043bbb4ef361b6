"""The backend under scanners: OpenSSL's own client for versions and suites, and sslyze for the known vulnerabilities.

sslyze is a program of its own, not a library of ours: it holds other libraries back. Where there is none, that test is
skipped; CONTRIBUTING.md says how to have it.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import ServerProcess
from harness.installed import installed

SUITES_1_2 = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}
SUITES_1_3 = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}

REFUSED_1_2 = [
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "aNULL",
    "eNULL",
]


@pytest.fixture(scope="module")
def server():
    with ServerProcess() as running:
        yield running


def s_client(server: ServerProcess, *options: str) -> str:
    """Return what ``openssl s_client`` prints about a handshake, with OpenSSL's own caution turned off."""
    command = [installed("openssl"), "s_client", "-connect", f"127.0.0.1:{server.backend[1]}", *options]
    done = subprocess.run(command, input=b"Q\n", capture_output=True, timeout=20)
    return (done.stdout + done.stderr).decode(errors="replace")


def shakes(server: ServerProcess, *options: str) -> bool:
    said = s_client(server, *options)
    assert "CONNECTED" in said
    return "New, TLSv1" in said


def test_it_answers_at_all(server: ServerProcess) -> None:
    """Else the refusals below would show nothing."""
    assert shakes(server)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(server: ServerProcess, version: str) -> None:
    assert not shakes(server, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize("suite", sorted(SUITES_1_2))
def test_suites_of_1_2_that_are_spoken(server: ServerProcess, suite: str) -> None:
    assert shakes(server, "-tls1_2", "-cipher", suite)


@pytest.mark.parametrize("suite", REFUSED_1_2)
def test_suites_of_1_2_that_are_not(server: ServerProcess, suite: str) -> None:
    assert not shakes(server, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")


@pytest.mark.parametrize("suite", sorted(SUITES_1_3))
def test_suites_of_1_3(server: ServerProcess, suite: str) -> None:
    assert shakes(server, "-tls1_3", "-ciphersuites", suite)


def test_nothing_is_compressed_and_nothing_renegotiated(server: ServerProcess) -> None:
    said = s_client(server, "-tls1_2", "-comp")
    assert "Compression: NONE" in said
    command = [installed("openssl"), "s_client", "-connect", f"127.0.0.1:{server.backend[1]}", "-tls1_2"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=20)
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stdout + done.stderr


def has_flaw(result: Any) -> list[str]:
    """Return the names of what sslyze says is vulnerable, wherever in its result that stands."""
    found = []
    if isinstance(result, dict):
        found += [name for name, value in result.items() if name.startswith("is_vulnerable") and value is True]
        found += [flaw for value in result.values() for flaw in has_flaw(value)]
    elif isinstance(result, list):
        found += [flaw for value in result for flaw in has_flaw(value)]
    return found


@pytest.mark.skipif(not shutil.which("sslyze"), reason="sslyze is not installed; CONTRIBUTING.md says how")
def test_sslyze_finds_nothing(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    scans = (
        "sslv2 sslv3 tlsv1 tlsv1_1 tlsv1_2 tlsv1_3 compression openssl_ccs fallback heartbleed robot reneg ems".split()
    )
    command = ["sslyze", *(f"--{scan}" for scan in scans), "--mozilla_config=disable", f"--json_out={path}"]
    subprocess.run([*command, f"127.0.0.1:{server.backend[1]}"], check=True, capture_output=True, timeout=120)
    (scanned,) = json.loads(path.read_text())["server_scan_results"]
    results = {name: scan["result"] for name, scan in scanned["scan_result"].items() if scan and scan["result"]}
    assert len(results) >= len(scans)
    assert has_flaw(results) == []
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert results[f"{version}_cipher_suites"]["accepted_cipher_suites"] == []
    for version in ("tls_1_2", "tls_1_3"):
        assert len(results[f"{version}_cipher_suites"]["accepted_cipher_suites"]) == 3
    assert not results["tls_compression"]["supports_compression"]
    assert results["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert results["tls_extended_master_secret"]["supports_ems_extension"]
    assert results["session_renegotiation"]["supports_secure_renegotiation"]
