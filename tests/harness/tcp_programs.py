"""Programs behind a TCP tunnel, each in a directory and on a port of its own: OpenSSH, PostgreSQL and Redis.

Each listens on 127.0.0.1 when its context manager has entered, and has ended when that is left. Everything that waits
for a program does so in a thread, so that the hub of the test goes on.
"""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from harness.beside import running
from harness.installed import environment, installed

LIMIT = 30.0
"""Seconds that one run of a program may take."""

UNPRIVILEGED = "nobody"
"""Who runs PostgreSQL, which refuses to be run by root."""


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it wrote; fails after LIMIT."""
    finished: subprocess.CompletedProcess[str] = gevent.get_hub().threadpool.apply(
        subprocess.run,
        ([installed(command[0]), *command[1:]],),
        {"env": environment(), "capture_output": True, "text": True, "timeout": LIMIT, "check": False, **options},
    )
    return finished


@contextmanager
def sshd(directory: Path, port: int) -> Iterator[list[str]]:
    """OpenSSH with keys of its own. Yields the options with which ssh may log in as the user of the test."""
    for name in ("host", "user"):
        made = run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
        assert made.returncode == 0, made.stderr
    (directory / "authorized").write_text((directory / "user.pub").read_text())
    known = (directory / "host.pub").read_text()
    (directory / "known").write_text(f"tunnel {known}")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {directory / 'host'}",
        f"AuthorizedKeysFile {directory / 'authorized'}",
        f"PidFile {directory / 'sshd.pid'}",
        "PasswordAuthentication no",
        "PermitRootLogin yes",
        "StrictModes no",
        "UsePAM no",
    ]
    (directory / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [installed("sshd"), "-D", "-e", "-f", str(directory / "sshd_config")]
    settings = {
        "IdentityFile": directory / "user",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": directory / "known",
        "HostKeyAlias": "tunnel",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
    }
    with running(command, port, directory / "sshd.log"):
        yield ["-F", "none", *(f"-o{key}={value}" for key, value in settings.items())]


@contextmanager
def redis(directory: Path, port: int) -> Iterator[None]:
    """Redis that keeps nothing."""
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(directory)]
    with running(command, port, directory / "redis.log"):
        yield


@contextmanager
def postgresql(directory: Path, port: int) -> Iterator[None]:
    """A PostgreSQL cluster of the test's own, whose user ``test`` needs no password."""
    binaries = _postgresql_binaries()
    cluster = directory / "cluster"
    options: dict[str, Any] = {"cwd": directory}
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        _let_enter(directory, user.pw_uid)
    made = run(str(binaries / "initdb"), "-D", str(cluster), "-U", "test", "-A", "trust", "--no-sync", **options)
    assert made.returncode == 0, made.stderr
    command = [str(binaries / "postgres"), "-D", str(cluster), "-h", "127.0.0.1", "-p", str(port), "-F"]
    command += ["-c", f"unix_socket_directories={directory}"]
    with running(command, port, directory.parent / "postgresql.log", **options):
        yield


def _postgresql_binaries() -> Path:
    """Return where the newest PostgreSQL's programs are: Debian keeps each version's in a directory of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        pytest.skip("postgresql is not installed; make deps installs it")
    return found[-1]


def _let_enter(directory: Path, uid: int) -> None:
    """Give ``directory`` to ``uid``, and let it pass through what is above: pytest's own directories are closed."""
    os.chown(directory, uid, -1)
    for parent in directory.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
