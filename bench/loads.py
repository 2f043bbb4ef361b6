"""The loads of a benchmark: requests and connections by wrk, bulk by our own visitors,
and the CPU time they cost."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import bulk
from figures import (
    CPU_CLIENT,
    CPU_SERVER,
    DOWN_1,
    DOWN_8,
    HTTP_1_0,
    KEEP_ALIVE,
    NEW,
    POST,
    REQUEST_UNITS,
    UNITS,
    UP_1,
    UP_8,
)
from processes import cpu_seconds
from programs import BenchError, require
from systems import ROOT, Door, System

CONNECTIONS = 32
"""Visitors that wrk keeps busy at the same time."""

MANY_STREAMS = 8
BULK_NAME = "bulk"
"""The file that is downloaded, below /files/, and whose bytes are uploaded."""

BULK_BYTES = 128 << 20
"""Its size: more than the processor's caches hold, little of the page cache. It is sent
again and again."""

CALM = 0.2
"""Seconds before each load, in which what the last one left behind is cleared away."""

_MICROSECONDS, _MILLISECONDS, _MB_PER_GB = 1e6, 1e3, 1e3
_WRK_PATIENCE = 30.0
"""Seconds beyond its load after which wrk counts as stuck."""


def make_bulk(files: Path, size: int = BULK_BYTES) -> Path:
    """Make the large file in ``files``."""
    path = files / BULK_NAME
    with path.open("wb") as file:
        file.truncate(size)
    # Nobody is to wait for the file system in the first of the loads.
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    return path


def all_loads(file: Path, seconds: float) -> dict[str, Callable[[System], dict[str, float]]]:
    """Return every load, by name, each of ``seconds``; wrk knows whole ones only, and
    takes one at least."""

    def down(streams: int) -> Callable[[System], float]:
        path = f"/files/{BULK_NAME}"
        return lambda system: bulk.download(system.requests.address, system.requests.host, path, streams, seconds)

    def up(streams: int) -> Callable[[System], float | None]:
        def take(system: System) -> float | None:
            door = system.uploads
            return door and bulk.upload(door.address, door.host, file, streams, seconds)

        return take

    loads: dict[str, Callable[[System], float | None]] = {
        KEEP_ALIVE: lambda system: requests(system.name, system.requests, seconds),
        POST: lambda system: requests(system.name, system.requests, seconds, *_script("post")),
        NEW: lambda system: requests(system.name, system.requests, seconds, "-H", "Connection: close", closing=True),
        HTTP_1_0: lambda system: requests(system.name, system.requests, seconds, *_script("http10"), closing=True),
        DOWN_1: down(1),
        DOWN_8: down(MANY_STREAMS),
        UP_1: up(1),
        UP_8: up(MANY_STREAMS),
    }
    return {name: _with_cpu(name, take) for name, take in loads.items()}


def _script(name: str) -> tuple[str, str]:
    """Return the options that have wrk send what one of the scripts here says."""
    return "-s", str(ROOT / "bench" / f"{name}.lua")


def _with_cpu(name: str, take: Callable[[System], float | None]) -> Callable[[System], dict[str, float]]:
    """Return ``take`` with the CPU time of server and client beside it."""

    def run(system: System) -> dict[str, float]:
        time.sleep(CALM)
        started, before = time.monotonic(), _cpu(system)
        try:
            rate = take(system)
        except BenchError as error:
            raise BenchError(f"{system.name}, {name}: {error}") from None
        took, after = time.monotonic() - started, _cpu(system)
        if rate is None:
            return {}
        found = {name: rate}
        if unit := UNITS.get(name):
            scale = _MICROSECONDS if name in REQUEST_UNITS else _MILLISECONDS * _MB_PER_GB
            for side, seconds in after.items():
                found[side.format(unit)] = (seconds - before[side]) / took / rate * scale
        return found

    return run


def _cpu(system: System) -> Mapping[str, float]:
    sides = {CPU_SERVER: system.server, CPU_CLIENT: system.client}
    clients = {pid: cpu_seconds(pid) for pid in (*sides.values(), *system.others) if pid is not None}
    found = {side: clients[pid] for side, pid in sides.items() if pid is not None}
    if CPU_CLIENT in found:
        # Uploads go through the second client; the one that is idle adds nothing.
        found[CPU_CLIENT] += sum(clients[pid] for pid in system.others)
    return found


def requests(
    name: str, door: Door, seconds: float, *options: str, connections: int = CONNECTIONS, closing: bool = False
) -> float:
    """Return the requests per second that wrk gets answered; ``closing`` as in
    ``read_wrk``. Raises BenchError when one is not."""
    whole = max(1, round(seconds))
    printed = output(wrk(door, whole, connections, *options), whole + _WRK_PATIENCE)
    return read_wrk(name, printed, closing=closing)


def wrk(door: Door, seconds: int, connections: int, *options: str) -> list[str]:
    """Return the command that has wrk ask at ``door`` as fast as it is answered."""
    command = [require("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}", "-H", f"Host: {door.host}", *options]
    address, port = door.address
    return [*command, f"http://{address}:{port}/"]


def read_wrk(name: str, printed: str, *, closing: bool = False) -> float:
    """Return the rate in what wrk ``printed``. Raises BenchError when a request of
    ``name`` was not answered.

    ``closing`` says that each connection was to be closed after its answer, which wrk
    takes for an error at times.
    """
    rate = 0.0
    for line in printed.splitlines():
        key, _, value = line.strip().partition(":")
        if key == "Requests/sec":
            rate = float(value)
        elif key == "Non-2xx or 3xx responses" or (key == "Socket errors" and not (closing and _only_closed(value))):
            raise BenchError(f"{name} did not answer every request: {line.strip()}.")
    if not rate:
        raise BenchError(f"wrk reported no rate for {name}: {printed!r}")
    return rate


def _only_closed(errors: str) -> bool:
    """Say whether all errors are of the kind as which wrk counts a close."""
    counts = dict(part.split() for part in errors.split(","))
    return all(int(count) == 0 for name, count in counts.items() if name != "read")


def output(command: list[str], seconds: float) -> str:
    """Return what ``command`` prints. Raises BenchError when it fails, or takes longer
    than ``seconds``."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{Path(command[0]).name} did not end within {seconds:g} s.") from None
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout
