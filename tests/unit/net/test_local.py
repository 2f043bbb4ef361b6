"""localtunnel.net.local: a line asked and a line answered, by whoever the file system lets."""

import stat

import gevent
import pytest
from gevent import socket
from harness import CAP, at_most

from localtunnel.errors import ListenError, Unreachable
from localtunnel.net import local
from localtunnel.net.local import MAX_LINE, LineServer, ask

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def path(tmp_path):
    """A directory whose name alone is longer than an address may be."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    return directory / "admin.sock"


@pytest.fixture
def server(path):
    made = LineServer(path, lambda line: b"<" + line + b">")
    made.start()
    yield made
    made.stop()


def ask_beside(path, question):
    """Ask from a thread, as another program would: ``ask`` blocks the one that it is in."""

    def attempt():
        try:
            return ask(path, question)
        except Unreachable as error:
            return error

    answer = gevent.get_hub().threadpool.apply(attempt)
    if isinstance(answer, Unreachable):
        raise answer
    return answer


def raw(path, tmp_path):
    link = tmp_path / "s"
    link.symlink_to(path)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(CAP)
    sock.connect(str(link))
    return sock


def test_questions_and_answers(path, server):
    assert ask_beside(path, b"one") == b"<one>"
    assert ask_beside(path, b"") == b"<>"
    assert ask_beside(path, b"x" * (MAX_LINE - 1)) == b"<" + b"x" * (MAX_LINE - 1) + b">"


def test_an_answer_of_any_length(path):
    long = b"x" * 5_000_000
    server = LineServer(path, lambda line: long)
    server.start()
    try:
        assert ask_beside(path, b"?") == long
    finally:
        server.stop()


def test_nobody_else_may_connect(path, server):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"x" * (MAX_LINE + 1), b"half a line", b""])
def test_what_is_no_line_is_not_answered(path, server, tmp_path, data):
    with raw(path, tmp_path) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with at_most(CAP):
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                pass
    assert ask_beside(path, b"still there") == b"<still there>"


def test_who_says_nothing_is_not_waited_for(path, server, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "SERVE_TIMEOUT", 0.05)
    with raw(path, tmp_path) as sock, at_most(CAP):
        assert sock.recv(100) == b""


def test_a_line_byte_by_byte(path, server, tmp_path):
    with raw(path, tmp_path) as sock:
        for byte in b"one\n":
            sock.sendall(bytes([byte]))
            gevent.sleep(0.001)
        assert sock.recv(100) == b"<one>\n"


def test_one_that_hangs_does_not_hold_up_the_others(path):
    held = gevent.event.Event()

    def answer(line):
        if line == b"slow":
            held.wait()
        return line

    server = LineServer(path, answer)
    server.start()
    slow = gevent.spawn(ask_beside, path, b"slow")
    assert ask_beside(path, b"fast") == b"fast"
    held.set()
    assert slow.get(timeout=CAP) == b"slow"
    server.stop()


def test_stopping_drops_who_waits_and_removes_the_path(path):
    asked, held = gevent.event.Event(), gevent.event.Event()
    server = LineServer(path, lambda line: asked.set() or (held.wait() and b""))
    server.start()

    def attempt():
        with pytest.raises(Unreachable):
            ask_beside(path, b"?")

    waiting = gevent.spawn(attempt)
    assert asked.wait(CAP)
    server.stop()
    server.stop()
    waiting.get(timeout=CAP)
    assert not path.exists()
    with pytest.raises(Unreachable):
        ask_beside(path, b"?")


def test_a_path_that_was_left_behind_is_taken_over(path):
    first = LineServer(path, lambda line: b"first")
    first.start()
    second = LineServer(path, lambda line: b"second")
    second.start()
    assert ask_beside(path, b"?") == b"second"
    first._server.stop()
    second.stop()


def test_a_place_where_nobody_can_listen(tmp_path):
    with pytest.raises(ListenError, match="Cannot listen"):
        LineServer(tmp_path / "nowhere" / "admin.sock", lambda line: line).start()
    with pytest.raises(Unreachable):
        ask(tmp_path / "nowhere" / "admin.sock", b"?")
