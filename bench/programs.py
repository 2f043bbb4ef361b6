"""Programs that a benchmark runs beside itself: started here, and each ended by its own
process id."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from processes import is_listened_on

LOOPBACK = "127.0.0.1"

START_TIMEOUT = 10.0
"""Seconds that a program may take until it listens."""

END_TIMEOUT = 5.0
"""Seconds that a program may take to end when it is asked to, before it is killed."""

POLL = 0.02
"""Seconds between two looks at what has no event to wait for."""

NGINX, HAPROXY, SSH, SSHD = "nginx", "haproxy", "ssh", "sshd"

# Debian keeps servers where only root's PATH leads.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class BenchError(Exception):
    """A benchmark cannot be run, or a measurement went wrong; the text says why and
    what to do."""


def find(name: str) -> str | None:
    """Return the path of the program ``name``, or None when it is not installed."""
    return shutil.which(name, path=_PATH)


def require(name: str, package: str) -> str:
    """Return the path of the program ``name``. Raises BenchError, naming its Debian
    package, when it is missing."""
    path = find(name)
    if path is None:
        raise BenchError(f"The program {name} is not installed; install it with: sudo apt-get install {package}")
    return path


def version(*command: str) -> str:
    """Return what ``command`` prints first about its version, on either stream, up to a
    comma or a date."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_TIMEOUT)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return re.split(r",| \d{4}/", lines[0])[0].strip() if lines else "unknown"


def raise_descriptor_limit() -> None:
    """Let this process, and what it starts, have as many descriptors as the system
    allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def unused_port() -> int:
    """Return a port of loopback on which nothing listens; below the ephemeral range, so
    no dial gets it by chance.

    It stays claimed for as long as this process runs, so that no other benchmark is
    given it. Tests take theirs below 21,000.
    """
    for port in range(21_000, 30_000):
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(f"\0localtunnel-bench-port-{port}")
                sock.bind((LOOPBACK, port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port
    raise BenchError("No port of loopback between 21000 and 30000 is free.")


_claims: list[socket.socket] = []
"""Sockets whose abstract names (unix(7)) claim the ports that were given."""


class Programs:
    """A directory for the files of several programs, and the programs. Leaving the
    ``with`` block ends all of them."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="localtunnel-bench-")
        self._running: list[subprocess.Popen[bytes]] = []
        self._made: list[Path] = []
        self.directory = Path(self._directory.name)

    def __enter__(self) -> "Programs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            _end(process)
        for path in self._made:
            path.rmdir()
        self._directory.cleanup()

    def make_directory(self, path: Path) -> None:
        """Make an empty directory that a program insists on, if it is missing; it goes
        with the programs."""
        if not path.exists():
            path.mkdir(mode=0o755)
            self._made.append(path)

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start ``command``; what it prints goes to files of the directory called after
        ``name``.

        stdin is a pipe that is never written to, so that a program may take its end for
        the end of the benchmark. What the user has set for lt-client in the
        environment, a token perhaps, is not for these.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LT_")}
        with self._out(name).open("wb") as out, self._err(name).open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment)
        self._running.append(process)
        return process

    def wait_for_line(self, name: str, process: subprocess.Popen[bytes]) -> str:
        """Return the first line that the program ``name`` prints on stdout. Raises
        BenchError when none comes."""
        give_up = time.monotonic() + START_TIMEOUT
        while b"\n" not in (printed := self._out(name).read_bytes()):
            self._check(name, process, give_up)
        return printed.decode().splitlines()[0]

    def wait_for_port(self, name: str, process: subprocess.Popen[bytes], port: int, host: str = LOOPBACK) -> None:
        """Return once ``port`` of ``host`` is listened on in the network namespace of
        ``process``.

        Raises BenchError, with what the program ``name`` said, when it is not within
        the time-out.
        """
        give_up = time.monotonic() + START_TIMEOUT
        while not is_listened_on(process.pid, port, host):
            self._check(name, process, give_up)

    def _check(self, name: str, process: subprocess.Popen[bytes], give_up: float) -> None:
        if process.poll() is not None or time.monotonic() > give_up:
            state = "is not ready in time" if process.returncode is None else f"ended with code {process.returncode}"
            said = self._err(name).read_text(errors="replace").strip()
            raise BenchError(f"The program {name} {state}. It said: {said or 'nothing'}")
        time.sleep(POLL)

    def _out(self, name: str) -> Path:
        return self.directory / f"{name}.out"

    def _err(self, name: str) -> Path:
        return self.directory / f"{name}.err"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
