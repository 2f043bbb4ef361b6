"""localtunnel.net.flow.relay: an EOF that is held back, as peers of LTP/0.2 need it, an
end without an answer, aborting.
"""

import errno

import gevent
import pytest
from harness import CAP, is_reset, read_exactly, read_to_end, wait_until
from harness.relays import BULK, DIGEST, Bound, digest_to_end, send_and_finish, upload

from localtunnel.net import closing
from localtunnel.net.flow import relay as relay_module

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_held_eof_keeps_the_other_direction_open_until_it_has_ended():
    bound = Bound(hold_eof=True).start()
    send_and_finish(bound.a, b"question")
    assert bound.b.recv(100) == b"question"
    bound.b.settimeout(0.1)
    with pytest.raises(TimeoutError):
        bound.b.recv(1)
    bound.b.settimeout(CAP)
    writer = gevent.spawn(send_and_finish, bound.b, BULK)
    assert digest_to_end(bound.a) == DIGEST
    writer.get()
    assert read_to_end(bound.b) == b""
    assert bound.end() == "closed"


def test_only_the_eof_of_a_is_held():
    bound = Bound(hold_eof=True).start()
    send_and_finish(bound.b, b"answer")
    assert read_to_end(bound.a) == b"answer"
    writer = gevent.spawn(send_and_finish, bound.a, BULK)
    assert digest_to_end(bound.b) == DIGEST
    writer.get()
    assert bound.end() == "closed"


def test_a_held_eof_is_passed_on_when_nothing_was_ever_answered(monkeypatch):
    monkeypatch.setattr(relay_module, "HELD_EOF_IDLE", 0.05)
    bound = Bound(hold_eof=True).start()
    send_and_finish(bound.a, b"hello?")
    assert read_to_end(bound.b) == b"hello?"
    bound.b.close()
    assert bound.end() == "closed"


def test_a_held_eof_is_passed_on_sooner_once_something_was_answered(monkeypatch):
    monkeypatch.setattr(relay_module, "HELD_EOF_IDLE", 60.0)
    monkeypatch.setattr(relay_module, "HELD_EOF_ANSWERED", 0.05)
    bound = Bound(hold_eof=True).start()
    bound.b.sendall(b"keep-alive answer")
    assert bound.a.recv(100) == b"keep-alive answer"
    send_and_finish(bound.a, b"")
    assert read_to_end(bound.b) == b""
    bound.b.close()
    assert bound.end() == "closed"


def test_a_held_eof_waits_for_as_long_as_the_answer_flows(monkeypatch):
    monkeypatch.setattr(relay_module, "HELD_EOF_IDLE", 0.5)
    monkeypatch.setattr(relay_module, "HELD_EOF_ANSWERED", 0.5)
    bound = Bound(hold_eof=True).start()
    send_and_finish(bound.a, b"stream, please")
    assert bound.b.recv(100) == b"stream, please"
    for _ in range(10):
        # The time in between is what is tested: far shorter than either patience, in all twice as long.
        gevent.sleep(0.1)
        bound.b.sendall(b"event")
        assert read_exactly(bound.a, 5) == b"event"
        assert bound.relay._b.writable
    bound.b.close()
    assert read_to_end(bound.a) == b""
    assert bound.end() == "closed"


def test_an_end_that_fails_while_the_other_is_drained_is_watched_no_more():
    bound = Bound().start()
    bound.b.sendall(b"refused")
    assert read_exactly(bound.a, 7) == b"refused"
    # A write to b fails, and then a read of it as well.
    bound.relay.write_failed(bound.relay._b)
    closing.reset(bound.b)
    assert read_to_end(bound.a) == b""
    assert not bound.relay._b.end.watcher.active
    bound.a.close()
    assert bound.end() == "closed"


# Abort.


def test_abort_resets_both_ends_and_only_the_first_reason_counts():
    bound = Bound().start()
    bound.relay.abort("first")
    bound.relay.abort("second")
    assert is_reset(bound.a)
    assert is_reset(bound.b)
    assert bound.end() == "first"


def test_abort_in_the_middle_of_ten_megabytes():
    bound = Bound(bufsize=64 * 1024).start()
    writers = [gevent.spawn(upload, sock) for sock in (bound.a, bound.b)]
    wait_until(lambda: bound.relay._a.backlog and bound.relay._b.backlog)
    bound.relay.abort("enough")
    for writer in writers:
        assert writer.get() in (errno.EPIPE, errno.ECONNRESET)
    assert bound.end() == "enough"


def test_abort_while_an_eof_is_held():
    bound = Bound(hold_eof=True).start()
    send_and_finish(bound.a, b"x")
    assert bound.b.recv(1) == b"x"
    wait_until(lambda: bound.relay._timer is not None)
    bound.relay.abort("enough")
    assert is_reset(bound.b)
    assert bound.end() == "enough"


def test_abort_after_the_end_changes_nothing():
    bound = Bound().start()
    bound.a.close()
    assert read_to_end(bound.b) == b""
    bound.b.close()
    assert bound.end() == "closed"
    bound.relay.abort("late")
    assert bound.reasons == ["closed"]


def test_abort_from_within_the_end_of_another_relay():
    """A tunnel's end aborts its other joins from a callback in the hub."""
    first, second = Bound(), Bound()
    first.relay._on_end = lambda reason: (first.reasons.append(reason), second.relay.abort("with the first"))
    first.start()
    second.start()
    first.relay.abort("over")
    assert is_reset(second.a)
    assert first.end() == "over"
    assert second.end() == "with the first"


def test_an_end_that_is_gone_before_the_start_is_noticed(monkeypatch):
    monkeypatch.setattr(closing, "IDLE", 0.1)
    bound = Bound()
    closing.reset(bound.b)
    bound.start(to_b=b"GET / HTTP/1.1\r\n\r\n")
    assert bound.end() in ("b reset", "b closed early")


def test_many_relays_give_everything_back():
    everything = [Bound().start() for _ in range(50)]
    for bound in everything:
        send_and_finish(bound.a, b"q")
        send_and_finish(bound.b, b"a")
    for bound in everything:
        assert read_to_end(bound.a) == b"a"
        assert read_to_end(bound.b) == b"q"
        assert bound.end() == "closed"


# An end without an answer.


@pytest.mark.parametrize("hold_eof", [False, True])
@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_an_end_without_a_byte_gives_the_other_side_back(end, hold_eof):
    bound = Bound(answers=True, hold_eof=hold_eof).start(to_b=b"question")
    bound.a.sendall(b" and more")
    assert read_exactly(bound.b, 17) == b"question and more"
    end(bound.b)
    wait_until(lambda: bound.unanswered)
    assert bound.unanswered == 1
    assert bound.reasons == []
    assert bound.relay.ended
    bound.sock_a.send(b"502")
    assert bound.a.recv(10) == b"502"
    bound.relay.abort("late")
    bound.sock_a.send(b" and the rest")
    closing.close(bound.sock_a)
    assert read_to_end(bound.a) == b" and the rest"
    bound.a.close()


@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_an_end_without_a_byte_counts_though_the_question_is_still_being_sent(end):
    bound = Bound(answers=True, bufsize=65536).start()
    writer = gevent.spawn(upload, bound.a)
    bound.b.recv(1)
    end(bound.b)
    wait_until(lambda: bound.unanswered)
    closing.reset(bound.sock_a)
    writer.get()
    assert bound.reasons == []
    bound.a.close()


@pytest.mark.parametrize("first", [b"", b"H"])
def test_an_end_after_a_byte_is_an_end_like_any_other(first):
    bound = Bound(answers=True).start(to_a=first)
    bound.b.sendall(b"" if first else b"H")
    assert bound.a.recv(1) == b"H"
    bound.b.close()
    assert read_to_end(bound.a) == b""
    bound.a.close()
    assert bound.end() == "closed"
    assert bound.unanswered == 0


def test_the_end_of_a_is_never_unanswered():
    bound = Bound(answers=True).start()
    bound.a.close()
    assert read_to_end(bound.b) == b""
    bound.b.sendall(b"to nobody")
    bound.b.close()
    bound.end()
    assert bound.unanswered == 0


def test_without_anybody_to_answer_an_end_without_a_byte_is_passed_on():
    bound = Bound().start()
    bound.b.close()
    assert read_to_end(bound.a) == b""
    bound.a.close()
    assert bound.end() == "closed"
