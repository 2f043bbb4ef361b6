"""One target under atheris, in a process of its own: ``python -m fuzz.search TARGET [ARGUMENT OF LIBFUZZER]...``."""

import sys

import atheris

# Its hooks for regular expressions would help, but they fail on patterns of bytes.
with atheris.instrument_imports(include=["localtunnel", "tomllib"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Search until libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    atheris.Setup([name, *arguments], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
