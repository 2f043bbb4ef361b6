"""localtunnel.cli.clean: no text that a peer sends reaches a person, a script or a log as anything but text.

The cases are made from the messages themselves, so that a field that is added to one is tried without a line here.
"""

import io
import json
import logging
from contextlib import contextmanager
from typing import get_args

import gevent
import msgspec
import pytest
from gevent import socket
from harness import LOOPBACK, backend, connect, running_client, running_server, unused_port, wait_until
from harness.v3 import HEADER_0_3, RawBackend, control_reply
from hypothesis import given
from hypothesis import strategies as st

from localtunnel import errors
from localtunnel.cli import program
from localtunnel.cli.clean import LINES, MAX_ERROR, MAX_SHOWN, clean, clean_lines, cleaned
from localtunnel.cli.commands import tunnels
from localtunnel.cli.log import JsonFormatter, TextFormatter
from localtunnel.cli.output import Json, Piped, Quiet, Terminal
from localtunnel.client import events
from localtunnel.client.sessions.opening import _REFUSALS
from localtunnel.net import local
from localtunnel.protocol import messages
from localtunnel.protocol.messages import FromClient, FromServer
from localtunnel.protocol.wire.codec import encode

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b1mbold\r\u202egnp\u2028\x00end"
FORGED = "URL     http://forged.example"
FORGING = f"It is over.\n{FORGED}\r\n{FORGED}\x85{FORGED}\u2028{FORGED}\x0b{FORGED}\x1b[1A\x1b]0;t\x07\u202e"
"""What a peer would send that wants a line of its own on somebody's screen."""


def test_clean_takes_whole_sequences_and_control_characters():
    assert clean(HOSTILE) == "redboldgnpend"
    assert clean("GET /caf\u00e9?\u65e5 HTTP/1.1") == "GET /caf\u00e9?\u65e5 HTTP/1.1"
    assert clean("a\tb\nc") == "a b c"


@pytest.mark.parametrize("text", ["x" * 10_000, "x\n" * 10_000])
def test_clean_bounds_what_is_shown(text):
    assert len(clean(text)) == MAX_SHOWN
    assert len(clean(text, MAX_ERROR)) == MAX_ERROR
    assert len(clean(text, None)) == len(text)


@given(st.text() | st.text("\x1b[]\x9b0;mP\\\x07\x9cA\n\r\t "))
def test_clean_never_leaves_a_control_character(text):
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in clean(text))
    assert len(clean(text).splitlines()) <= 1
    assert clean(clean(text)) == clean(text)
    assert len(clean_lines(text).splitlines()) <= len(text.splitlines())


def event_types():
    return get_args(events.Event)


@pytest.mark.parametrize("kind", event_types())
def test_every_text_of_every_event_is_cleaned(kind):
    fields = {name: FORGING if "str" in str(hint) else 1 for name, hint in kind.__annotations__.items()}
    event = cleaned(kind(**fields))
    for name, value in fields.items():
        shown = getattr(event, name)
        if value is not FORGING:
            assert shown == value
        else:
            assert all(line.isprintable() for line in shown.split("\n"))
            assert name in LINES or "\n" not in shown


# What a server sends.


def texts_of(kinds):
    """Return (type, field) for each text in the messages of ``kinds``."""
    fields = [(kind, field) for kind in get_args(kinds) for field in msgspec.structs.fields(kind)]
    return [(kind, field.name) for kind, field in fields if holds_text(field.type)]


def holds_text(hint):
    if hint is str or any(holds_text(inner) for inner in get_args(hint)):
        return True
    return getattr(hint, "__origin__", None) is dict


def hostile(kind, field, **values):
    """Return the frame of a message of ``kind`` with a text that forges in ``field``, if that is not None."""
    text = FORGING[:64].ljust(64, "x") if field in ("session", "resume", "owner") else FORGING
    values[field] = (text,) if field == "options" else text
    needed = {"id": 1, "host": "demo.localhost", "session": "5e" * 16, "peer": "p", "error": "exception"}
    needed |= {"name": "demo", "client": "me", "text": "t", "instance": "one"}
    names = {each.name for each in msgspec.structs.fields(kind)}
    return encode(kind(**{name: value for name, value in {**needed, **values}.items() if name in names}))


def from_server():
    cases = [(kind, field, {}) for kind, field in texts_of(FromServer)]
    # The kind of an assignment is one of two words, whatever its sender may wish.
    cases = [case for case in cases if case[:2] != (messages.Assignment, "kind")]
    return cases + [(messages.ErrorReply, "message", {"error": code}) for code in (*_REFUSALS, "version")]


@contextmanager
def everything_logged():
    """Give what is logged meanwhile, as the text and as the JSON that the commands would write."""
    logger = logging.getLogger("localtunnel")
    level, streams = logger.level, (io.StringIO(), io.StringIO())
    handlers = [logging.StreamHandler(stream) for stream in streams]
    for handler, formatter in zip(handlers, (TextFormatter(), JsonFormatter()), strict=True):
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.setLevel("DEBUG")
    try:
        yield streams
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)


def assert_harmless(text):
    """Each line is one of ours, whatever stands in it."""
    for line in text.split("\n"):
        assert line.isprintable(), line
        assert not line.startswith(FORGED)


def where_it_may_come(kind):
    if kind in (messages.ControlReply, messages.Challenge):
        return ["opening"]
    if kind is messages.Assignment:
        return ["proxy"]
    return ["opening", "open", "proxy"] if kind is messages.ErrorReply else ["open"]


@pytest.mark.parametrize(
    ("kind", "field", "values", "place"),
    [(*case, place) for case in from_server() for place in where_it_may_come(case[0])],
    ids=lambda value: value.get("error", "") if isinstance(value, dict) else getattr(value, "__name__", value),
)
def test_no_text_of_a_server_forges_a_line(kind, field, values, place, capsys):
    """Neither in what a renderer prints, nor in the log, nor in the last sentence of the program."""
    settings = {"name": "demo", "insecure": True, "retry": False, "timeouts": {"reply": 0.5}}
    with RawBackend() as raw, everything_logged() as logs:
        settings["backend"] = raw.port
        with running_client((LOOPBACK, 9), unused_port(), opened=False, **settings) as client:
            control, _ = raw.accept()
            if place == "opening":
                control.sendall(hostile(kind, field, **values))
                sock = control
            else:
                control.sendall(control_reply())
                sock = raw.accept_proxy()
                before = len(client.events), len(logs[0].getvalue())
                (control if place == "open" else sock).sendall(hostile(kind, field, **values))
                if place == "proxy":
                    wait_until(lambda: (len(client.events), len(logs[0].getvalue())) > before)
            if kind is not messages.Notice:
                # Whatever has not ended the session ends it now, so that all has been said.
                control.shutdown(socket.SHUT_WR)
                error = client.ended()
            else:
                client.wait_for(events.ServerNotice)
                error = None
    assert_shown_harmlessly(client.events)
    if error is not None:
        assert program.run("lt-client", lambda argv: raise_(error), []) != 1
        said = capsys.readouterr().err
        assert said.startswith("lt-client: ")
        assert said.count("\n") == 1
        assert_harmless(said)
    for log in logs:
        assert_harmless(log.getvalue())


def assert_shown_harmlessly(reported):
    lines = []
    for renderer in (Terminal(lines.append), Piped(lines.append, lines.append), Quiet(lines.append)):
        for event in reported:
            renderer(event)
    for line in lines:
        assert line.isprintable(), line
        assert not line.startswith(FORGED)
    objects = []
    for event in reported:
        Json(objects.append)(event)
    for text in objects:
        for name, value in json.loads(text).items():
            for line in value.split("\n") if name in LINES else [value]:
                assert not isinstance(line, str) or line.isprintable()


def raise_(error):
    raise error


def test_the_last_sentence_of_a_program_is_one_line_and_a_usage_is_not(capsys):
    program.run("lt-client", lambda argv: raise_(errors.RemoteFailure(FORGING)), [])
    assert capsys.readouterr().err.count("\n") == 1
    program.run("lt-client", lambda argv: raise_(errors.UsageError("No.\n\nUsage:\n  lt-client")), [])
    assert capsys.readouterr().err == "lt-client: No.\n\nUsage:\n  lt-client\n"
    program.run("lt-client", lambda argv: raise_(ValueError(FORGING)), [])
    assert_harmless(capsys.readouterr().err)


def test_the_last_object_of_json_is_cleaned_too():
    lines = []
    Json(lines.append).failed("exception", FORGING, 6)
    assert json.loads(lines[0])["message"].isprintable()


# What a client sends.


@pytest.mark.parametrize(("kind", "field"), texts_of(FromClient), ids=lambda value: getattr(value, "__name__", value))
def test_no_text_of_a_client_forges_a_line_of_the_servers_log(kind, field):
    first = kind in (messages.ControlRequest, messages.ProxyRequest)
    opening = HEADER_0_3 if first else HEADER_0_3 + hostile(messages.ControlRequest, None)
    with (
        everything_logged() as logs,
        running_server(timeouts={"error_hold": 0.0}) as server,
        connect(backend(server)) as sock,
    ):
        sock.sendall(opening + hostile(kind, field))
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: sock.recv(65536) == b"")
    assert logs[0].getvalue()
    for log in logs:
        assert_harmless(log.getvalue())


def test_what_a_client_calls_itself_is_listed_as_text(tmp_path):
    with running_server(data_dir=str(tmp_path)) as server, connect(backend(server)) as sock:
        sock.sendall(HEADER_0_3 + hostile(messages.ControlRequest, "client"))
        wait_until(lambda: len(server.registry))
        question = (tmp_path / "admin.sock", b'{"command": "list"}')
        (described,) = json.loads(gevent.get_hub().threadpool.apply(local.ask, question))["tunnels"]
        assert described["client"] == FORGING
        assert tunnels._row(described)[-1] == clean(FORGING)


def test_a_traceback_in_the_log_begins_no_line_of_its_own():
    with everything_logged() as logs:
        try:
            raise ValueError(f"{FORGING}\n2026-07-01T12:00:00.123Z info    server.app listening")
        except ValueError:
            logging.getLogger("localtunnel").exception("internal error")
    first, *rest = logs[0].getvalue().rstrip("\n").split("\n")
    assert "internal error" in first
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
