"""What both commands share: exceptions become a sentence on stderr and an exit code."""

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

    Only ``ModuleNotFoundError`` leaves this function: ``bin/`` explains what to
    install.
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
    """Return a settings file of the package, with its comments: ``server.toml`` or
    ``client.toml``."""
    return (Path(__file__).resolve().parent.parent / "conf" / name).read_text(encoding="utf-8")


def say(text: str) -> None:
    """Write one line to stderr. A closed or unread stderr is not a failure."""
    if sys.stderr is None:
        # print would write to stdout instead, which is for the command's result.
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
    """Say on stderr what ``error`` is about, as the program ``name``, on one line: part
    of it may come from a peer.

    Only a UsageError has several lines: it has the usage below it.
    """
    from localtunnel.cli.clean import MAX_ERROR, clean, clean_lines

    say(f"{name}: {clean_lines(str(error)) if isinstance(error, UsageError) else clean(str(error), MAX_ERROR)}")


def show(text: str) -> None:
    """Write text that was asked for to stdout, however long that takes.

    A reader that has gone is not an error; every other failure raises OutputError.
    """
    from localtunnel.cli.writer import Stream

    stream = Stream(sys.stdout)
    stream.write(stream.encode(text.rstrip("\n")))
    if stream.failure is not None:
        raise unwritable(stream.failure)


def unwritable(failure: OSError) -> OutputError:
    """Return the error for output that could not be written, to a full disk for
    example."""
    return OutputError(f"The output cannot be written: {failure.strerror}.")


def _internal_error(name: str, error: Exception) -> None:
    import logging
    import traceback

    from localtunnel.cli.clean import clean, clean_lines

    if logging.getLogger("localtunnel").isEnabledFor(logging.DEBUG):
        say(clean_lines("".join(traceback.format_exception(error))))
    summary = clean(" ".join(f"{type(error).__name__}: {error}".split()).rstrip("."))
    say(f"{name}: internal error: {summary}. {REPORT}")
