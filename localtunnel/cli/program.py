"""What both commands share: one way from an exception to a sentence on stderr and an
exit code."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from localtunnel.cli import exit_codes
from localtunnel.errors import LocaltunnelError, OutputError, UsageError

REPORT = "Please report it with the output of --log-level=debug."


def run(name: str, command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Call ``command`` with the arguments (the process's own when None) and return the
    exit code of the program.

    Of what a command raises, only ``ModuleNotFoundError`` leaves this function:
    ``bin/`` knows what to do about it.
    """
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except LocaltunnelError as error:
        complain(name, error)
        return exit_codes.exit_code(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except ModuleNotFoundError:
        raise
    except Exception as error:
        _internal_error(name, error)
        return exit_codes.INTERNAL_ERROR
    finally:
        _drop_unwritten()


def sample(name: str) -> str:
    """Return a commented settings file as it is shipped with the package:
    ``server.toml`` or ``client.toml``."""
    return (Path(__file__).resolve().parent.parent / "conf" / name).read_text(encoding="utf-8")


def say(text: str) -> None:
    """Write one line to stderr. A stderr that is closed or that nobody reads any more
    is no reason to fail."""
    if sys.stderr is None:
        # print would take stdout instead, and mix this into what was asked for.
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def _drop_unwritten() -> None:
    """Drop what stderr did not take, as on a terminal that was closed.

    The interpreter would try again when it exits, and end with 120 whatever the exit
    code was.
    """
    if sys.stderr is None:
        return
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def complain(name: str, error: LocaltunnelError) -> None:
    """Say on stderr what ``error`` is about, as the program ``name``: one line, since
    another machine may have a part.

    What is wrong about a command line comes from its user, with the usage below it.
    """
    from localtunnel.cli.clean import MAX_ERROR, clean, clean_lines

    say(f"{name}: {clean_lines(str(error)) if isinstance(error, UsageError) else clean(str(error), MAX_ERROR)}")


def show(text: str) -> None:
    """Write text that was asked for to stdout, whoever reads it and for however long.

    A reader who has gone wanted no more of it; every other failure raises OutputError.
    """
    from localtunnel.cli.writer import Stream

    stream = Stream(sys.stdout)
    stream.write(stream.encode(text.rstrip("\n")))
    if stream.failure is not None:
        raise unwritable(stream.failure)


def unwritable(failure: OSError) -> OutputError:
    """Return the error for output that could not be written, as to a disk that is
    full."""
    return OutputError(f"The output cannot be written: {failure.strerror}.")


def _internal_error(name: str, error: Exception) -> None:
    import logging
    import traceback

    from localtunnel.cli.clean import clean, clean_lines

    if logging.getLogger("localtunnel").isEnabledFor(logging.DEBUG):
        say(clean_lines("".join(traceback.format_exception(error))))
    summary = clean(" ".join(f"{type(error).__name__}: {error}".split()).rstrip("."))
    say(f"{name}: internal error: {summary}. {REPORT}")
