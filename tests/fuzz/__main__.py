"""``make fuzz``: runs each target under atheris for a while, and fails when one of them finds something.

usage: python -m fuzz [TARGET]...        in tests/

FUZZ_SECONDS is how long each target runs (30), FUZZ_JOBS how many run at a time (as many as there are processors). What
a search has learned is kept in .fuzz/TARGET, where the next one goes on. A finding is written beside it, as
.fuzz/TARGET-crash-…, -timeout-… or -oom-…; once it is mended, it goes to tests/data/corpus/fuzz/TARGET/ under a
name that says what it was.

Exit codes: 0 nothing was found, 1 something was, 2 atheris is missing or the command line is wrong.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from harness.places import ROOT

from fuzz.targets import TARGETS

KEPT = ROOT / ".fuzz"

SECONDS = 30
"""How long each target runs: some hundred thousand inputs. A search for real is told an hour, or a night."""

LIBFUZZER = (
    # Seconds for one input: what is linear takes milliseconds, and what is not is a finding.
    "-timeout=5",
    # MiB of the process, Python and atheris among them.
    "-rss_limit_mb=2048",
    "-print_final_stats=1",
    "-verbosity=0",
)


def main(names: list[str]) -> int:
    """Search the targets that are named, all of them without a name; return the exit code."""
    if find_spec("atheris") is None:
        print(f"make fuzz: atheris is not installed for Python {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        print(f"make fuzz: there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}.", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(int(os.environ.get("FUZZ_JOBS") or os.cpu_count() or 1)) as pool:
        found = [name for name, clean in pool.map(search, names or TARGETS) if not clean]
    print(f"Found something in: {', '.join(found)}." if found else "Nothing found.")
    return 1 if found else 0


def search(name: str) -> tuple[str, bool]:
    """Search one target, print what came of it, and say whether that was nothing."""
    seconds = int(os.environ.get("FUZZ_SECONDS") or SECONDS)
    learned = KEPT / name
    learned.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        for number, data in enumerate(TARGETS[name].seeds()):
            Path(seeds, str(number)).write_bytes(data)
        arguments = (*LIBFUZZER, f"-max_total_time={seconds}", f"-artifact_prefix={learned}-")
        command = [sys.executable, "-m", "fuzz.search", name, *arguments, str(learned), seeds]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    runs = [line.split()[-1] for line in done.stdout.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else 'no'} inputs, exit code {done.returncode}", flush=True)
    if done.returncode:
        print(done.stdout, flush=True)
    return name, done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
