"""Writes leases, is killed with SIGKILL at a random moment, and looks what is left; again and again. A program.

    python tests/programs/crash_leases.py DIRECTORY ROUNDS

Each round is a process of its own that writes with the server's code and says what was acknowledged. It fails when the
file is not whole, or when something is missing that was acknowledged.
"""

import os
import random
import select
import signal
import sqlite3
import sys
from pathlib import Path

import gevent

from localtunnel.server.names import leases
from localtunnel.server.names.claims import Claim, Owner
from localtunnel.server.names.leases import Leases
from localtunnel.server.store import FILE, Store

NAMES = 6
LONGEST_LIFE = 0.04
"""Seconds that a writer lives after what was awaited, at most: a dozen transactions."""
AWAITED = (1, 1, 1, 2, 4, 7, 13, 14, 20, 0)
"""Acknowledgements that are awaited in each ten rounds; of 7 or more, two belong to one of the NAMES."""


def write_forever(directory: Path, said: int, first: int) -> None:
    """Write leases with ever higher ports, several at a time, and say each that ``put`` has acknowledged."""
    store = Store(directory, (leases.SCHEMA,))
    store.open()
    table = Leases(store)

    def write(name: str) -> None:
        port = first
        while True:
            port += 1
            claim = Claim(name, Owner("key:1", kept=True), "", port=port)
            table.put(claim)
            os.write(said, f"{name} {port}\n".encode())
            table.end(claim, 600.0)

    gevent.joinall([gevent.spawn(write, f"name-{number}") for number in range(NAMES)])


def crash_once(directory: Path, acknowledged: dict[str, int], awaited: int) -> None:
    """Let a process write, kill it, and note in ``acknowledged`` what it had been told is safe.

    ``awaited`` is how many of its lines have come before a moment is chosen; 0 lets it be killed while it starts.
    """
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        write_forever(directory, said, max(acknowledged.values(), default=0))
        os._exit(1)
    os.close(said)
    with open(heard, encoding="ascii") as lines:
        told = [lines.readline() for _ in range(awaited)]
        select.select([], [], [], random.uniform(0, LONGEST_LIFE))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told += lines
    for line in told:
        if line.endswith("\n"):
            name, port = line.split()
            acknowledged[name] = int(port)


def check(directory: Path, acknowledged: dict[str, int]) -> None:
    """Raise AssertionError unless the file is whole and has what was acknowledged, or something newer."""
    if not (directory / FILE).exists():
        assert not acknowledged
        return
    database = sqlite3.connect(directory / FILE)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        rows = dict(database.execute("SELECT name, port FROM leases").fetchall()) if tables else {}
    finally:
        database.close()
    for name, port in acknowledged.items():
        assert rows.get(name, 0) >= port, f"{name}: {port} was acknowledged, {rows.get(name)} is there"


def main(directory: Path, rounds: int) -> None:
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        crash_once(directory, acknowledged, AWAITED[number % len(AWAITED)])
        check(directory, acknowledged)
    print(f"{rounds} crashes, {max(acknowledged.values(), default=0)} writes of a name, nothing lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
