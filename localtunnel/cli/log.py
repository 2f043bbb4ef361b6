"""The log of both commands: one line per record on stderr, as text for people or as
JSON for machines.

A record's message names what happened, and the fields in ``extra`` say to what. Both
formats write the fields behind the message and escape control characters, so that no
peer can forge a line.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

LOGGER = "localtunnel"
"""The root of the package's loggers: the level is set here, other libraries keep
theirs."""

HANDLER = "localtunnel.cli"
"""The name of the handler that ``configure`` installs, and replaces."""

_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN_VALUE = re.compile(r'[^\s"=\\]+')
_COLOURS = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}


def configure(level: str, log_format: str, environ: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Send the package's records of at least ``level`` to ``stream`` (stderr), in
    ``log_format`` text or json.

    Calling it again replaces what it installed before. Text has colour only on a
    terminal and without ``NO_COLOR``. Where the program was started without a stderr,
    as with ``2>&-``, the records go nowhere.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.NullHandler() if stream is None else logging.StreamHandler(stream)
    handler.name = HANDLER
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(_wants_colour(stream, environ)))
    logger = logging.getLogger(LOGGER)
    for old in [each for each in logger.handlers if each.name == HANDLER]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())


def take_over_hub() -> None:
    """Log exceptions of gevent's hub and of greenlets, which gevent would print to
    stderr."""
    from gevent import get_hub

    def log_exception(context: object, kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        logging.getLogger(LOGGER).error(
            "internal error", extra={"where": repr(context)}, exc_info=(kind, error, traceback)
        )

    get_hub().print_exception = log_exception


class TextFormatter(logging.Formatter):
    """Lines for people, such as ``2026-07-01T12:00:00.123Z info    server.app listening
    frontend=127.0.0.1:8000``."""

    def __init__(self, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
        logger = record.name.removeprefix(f"{LOGGER}.")
        fields = [f"{key}={_text(value)}" for key, value in _fields(record).items()]
        line = " ".join([_timestamp(record), level, logger, _escaped(record.getMessage()), *fields])
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object per line: ``time``, ``level``, ``logger``, ``event`` and the record's
    fields.

    Those four names, and ``exception`` for a traceback, override a field of the same
    name.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            **_fields(record),
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _text(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and _PLAIN_VALUE.fullmatch(text) else json.dumps(text)


def _escaped(message: str) -> str:
    return message if message.isprintable() else json.dumps(message)[1:-1]


def _indented(traceback: str) -> str:
    """Return the lines of ``traceback``, escaped and indented so that none of them
    looks like a record."""
    return "\n".join(f"  {_escaped(line)}" for line in traceback.splitlines())


def _wants_colour(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    return stream is not None and stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
