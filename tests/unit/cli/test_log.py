"""The log: its two formats, and that no record can forge another."""

import io
import json
import logging

import pytest

from localtunnel.cli import log

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b1mbold\r\u202egnp\u2028\x00end"


class Screen(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def logged():
    """A function that logs one record in a format and returns what was written."""
    logger = logging.getLogger("localtunnel")
    before = (logger.level, list(logger.handlers))

    def write(log_format, message="listening", environ=None, stream=None, level="info", **extra):
        stream = io.StringIO() if stream is None else stream
        log.configure(level, log_format, environ or {}, stream)
        logging.getLogger("localtunnel.server.app").info(message, extra=extra)
        return stream.getvalue()

    yield write
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def test_text_log_has_the_fields_as_key_and_value(logged):
    line = logged("text", frontend="127.0.0.1:8000", reason="a b", nothing="", count=3)
    time, rest = line.split(" ", 1)
    assert rest == 'info    server.app listening frontend=127.0.0.1:8000 reason="a b" nothing="" count=3\n'
    assert time.endswith("Z")
    assert len(time) == len("2026-07-01T12:00:00.123Z")


def test_json_log_has_the_fields_as_members(logged):
    entry = json.loads(logged("json", frontend="127.0.0.1:8000", count=3))
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "localtunnel.server.app",
        "event": "listening",
        "frontend": "127.0.0.1:8000",
        "count": 3,
    }


@pytest.mark.parametrize("hostile", [HOSTILE, "\u202egnp", "\x85", "\x1b[2J", "a\nforged"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_logged_can_forge_a_line(logged, log_format, hostile):
    out = logged(log_format, f"bad {hostile}", peer=hostile)
    assert out.count("\n") == 1
    assert out.rstrip("\n").isprintable()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_logged(logged, log_format):
    stream = io.StringIO()
    logged(log_format, stream=stream)
    try:
        raise ValueError("a reason")
    except ValueError:
        logging.getLogger("localtunnel").exception("failed")
    assert "ValueError: a reason" in stream.getvalue()


def test_the_level_and_the_handler_are_replaced_when_configured_again(logged):
    assert logged("text", level="warning") == ""
    first = io.StringIO()
    logged("text", stream=first)
    seen = first.getvalue()
    assert logged("text").count("\n") == 1
    assert first.getvalue() == seen


@pytest.mark.parametrize(
    ("environ", "stream", "coloured"),
    [
        ({}, Screen, True),
        ({"NO_COLOR": ""}, Screen, True),
        ({"NO_COLOR": "1"}, Screen, False),
        ({"TERM": "dumb"}, Screen, False),
        ({}, io.StringIO, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(logged, environ, stream, coloured):
    assert ("\x1b[" in logged("text", environ=environ, stream=stream())) is coloured
    assert "\x1b[" not in logged("json", environ=environ, stream=stream())


def test_without_a_stderr_the_log_goes_nowhere(capsys, logged, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    log.configure("info", "text", {})
    logging.getLogger("localtunnel").error("unseen")
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_the_log_goes_to_stderr_unless_told_otherwise(capsys):
    logger = logging.getLogger("localtunnel")
    before = (logger.level, list(logger.handlers))
    try:
        log.configure("info", "text", {})
        logger.info("here")
    finally:
        logger.setLevel(before[0])
        logger.handlers[:] = before[1]
    captured = capsys.readouterr()
    assert captured.err.endswith("localtunnel here\n")
    assert captured.out == ""
