"""Makes and revokes tokens, is killed with SIGKILL at a random moment, and looks what is left; again and again.

    python tests/programs/crash_tokens.py DIRECTORY ROUNDS

Each round is two processes that edit the same file with the server's code and say what was acknowledged. It fails when
the file is not whole, when a token is missing that was acknowledged, or when one is there that was taken back.
"""

import os
import random
import select
import signal
import stat
import sys
from pathlib import Path

from localtunnel.server.access import tokens

WRITERS = 2
LONGEST_LIFE = 0.05
"""Seconds that the writers live after what was awaited, at most: a dozen replacements of the file."""
AWAITED = (3, 3, 3, 4, 5, 6, 7, 8, 9, 0)
"""Acknowledgements that are awaited in each ten rounds; of three that two writers gave, one took a token back."""


def write_forever(directory: Path, said: int) -> None:
    """Make tokens and take every other one back, and say so once each call has returned."""
    while True:
        kept, _ = tokens.create(directory, "SHA256:" + "A" * 43)
        os.write(said, f"made {kept.id}\n".encode())
        gone, _ = tokens.create(directory, "SHA256:" + "A" * 43)
        with tokens.edit(directory) as records:
            del records[gone.id]
        os.write(said, f"revoked {gone.id}\n".encode())


def crash_once(directory: Path, made: set[str], revoked: set[str], awaited: int) -> None:
    """Let processes write, kill them, and note what they had been told is safe.

    ``awaited`` is how many of their lines have come before a moment is chosen; 0 lets them be killed while they start.
    """
    heard, said = os.pipe()
    children = [fork(directory, heard, said) for _ in range(WRITERS)]
    os.close(said)
    with open(heard, encoding="ascii") as lines:
        told = [lines.readline() for _ in range(awaited)]
        select.select([], [], [], random.uniform(0, LONGEST_LIFE))
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        told += lines
    for line in told:
        if line.endswith("\n"):
            word, name = line.split()
            (made if word == "made" else revoked).add(name)


def fork(directory: Path, heard: int, said: int) -> int:
    """Return the id of a process that writes until it is killed."""
    child = os.fork()
    if child == 0:
        os.close(heard)
        write_forever(directory, said)
        os._exit(1)
    return child


def check(directory: Path, made: set[str], revoked: set[str]) -> None:
    """Raise AssertionError unless the file is whole, private, and has what was acknowledged."""
    there = {record.id for record in tokens.read(directory)}
    assert made <= there, f"lost: {made - there}"
    assert not revoked & there, f"came back: {revoked & there}"
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert len(list(directory.iterdir())) <= 3


def main(directory: Path, rounds: int) -> None:
    made: set[str] = set()
    revoked: set[str] = set()
    for number in range(rounds):
        crash_once(directory, made, revoked, AWAITED[number % len(AWAITED)])
        check(directory, made, revoked)
        # A file that grows for ever would make the last rounds slow.
        with tokens.edit(directory) as records:
            records.clear()
        made.clear()
    print(f"{rounds} crashes, {len(revoked)} tokens taken back, nothing lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
