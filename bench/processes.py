"""What the kernel says of running processes: their ports, their memory and their CPU
time."""

import os
import socket
import sys
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") // 1024

# Fields of /proc/PID/stat (proc(5)), counted from the one behind the program's name,
# which may hold spaces.
_PARENT, _USER_TIME, _SYSTEM_TIME, _RESIDENT = 1, 11, 12, 21


def is_listened_on(pid: int, port: int, host: str) -> bool:
    """Say whether somebody in the namespace of process ``pid`` listens, without a visit
    that a tunnel would pass on."""
    wanted = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()]
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process and all that descend from it, in KiB."""
    return sum(int(stat[_RESIDENT]) for stat in _family(pid)) * _KIB_PER_PAGE


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and all that descend from it have had; the
    kernel counts in 10 ms."""
    return sum(int(stat[_USER_TIME]) + int(stat[_SYSTEM_TIME]) for stat in _family(pid)) / _TICKS


def _family(pid: int) -> list[list[str]]:
    """Return what /proc says of ``pid`` and its descendants."""
    stats: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = entry.joinpath("stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            stats[int(entry.name)] = stat
            children.setdefault(int(stat[_PARENT]), []).append(int(entry.name))
    family = [pid]
    for member in family:
        family.extend(children.get(member, []))
    return [stats[member] for member in family if member in stats]
