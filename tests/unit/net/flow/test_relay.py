"""localtunnel.net.flow.relay: the pump, over real sockets and over ends that move a few bytes at a time."""

import errno
import hashlib
import select
import socket
import time
from functools import partial

import gevent
import pytest
from harness import CAP, at_most, is_reset, read_exactly, read_to_end, wait_until
from harness.relays import BULK, DIGEST, MB, Bound, Recorder, both_ways, digest_to_end, send_and_finish, upload

from localtunnel.net import closing, sockets
from localtunnel.net.flow import tapped
from localtunnel.net.flow.buffer import BUFFER_SIZE
from localtunnel.net.flow.ends import SocketEnd

pytestmark = pytest.mark.usefixtures("no_leaks")


class TrickleEnd(SocketEnd):
    """A SocketEnd through which little passes at a time, so that every write is a partial one."""

    __slots__ = ("size",)

    def __init__(self, sock, label, size):
        super().__init__(sock, label)
        self.size = size
        self.try_read = lambda buffer: sock.recv_into(memoryview(buffer)[:size])
        self.try_write = lambda data: sock.send(memoryview(data)[: size // 2 + 1])


@pytest.fixture(params=["whole", "trickle"])
def make_end(request):
    """The end under the relay: a socket, or one that moves at most 20,011 bytes at a time."""
    return SocketEnd if request.param == "whole" else partial(TrickleEnd, size=20_011)


def test_ten_megabytes_go_both_ways_at_once(make_end):
    both_ways(Bound(make_end=make_end).start())


@pytest.mark.parametrize("first", ["a", "b"])
def test_after_a_half_close_ten_megabytes_still_come_the_other_way(first, make_end):
    bound = Bound(make_end=make_end).start()
    early, late = bound.peers(first)
    send_and_finish(early, b"question")
    assert read_to_end(late) == b"question"
    writer = gevent.spawn(send_and_finish, late, BULK)
    assert digest_to_end(early) == DIGEST
    writer.get()
    assert bound.end() == "closed"


def test_the_bytes_read_before_come_first_and_are_counted():
    bound = Bound().start(to_a=b"for a, ", to_b=b"for b, ")
    send_and_finish(bound.a, b"from a")
    send_and_finish(bound.b, b"from b")
    assert read_to_end(bound.b) == b"for b, from a"
    assert read_to_end(bound.a) == b"for a, from b"
    assert bound.end() == "closed"
    assert bound.relay.from_a == len(b"for b, from a")
    assert bound.relay.from_b == len(b"for a, from b")


def test_bytes_read_before_may_be_more_than_the_socket_takes():
    bound = Bound(bufsize=64 * 1024)
    bound.start(to_b=BULK[:MB])
    writer = gevent.spawn(send_and_finish, bound.a, b"then this")
    data = read_exactly(bound.b, MB)
    assert data == BULK[:MB]
    assert bound.b.recv(100) == b"then this"
    writer.get()
    bound.b.close()
    bound.end()


def held_back(size):
    """Return how many bytes a relay takes from a writer of ``size`` bytes, when nobody reads at the other end."""
    bound = Bound(bufsize=64 * 1024).start()
    writer = gevent.spawn(send_and_finish, bound.a, BULK[:size])
    side = bound.relay._b
    # Full: the relay holds bytes that the socket does not take, and so does the writer's own socket.
    wait_until(lambda: side.backlog and not is_writable(bound.a))
    taken = bound.relay.from_a
    assert len(side.backlog) <= BUFFER_SIZE
    assert digest_to_end(bound.b) == hashlib.sha256(BULK[:size]).digest()
    writer.get()
    bound.b.close()
    bound.end()
    return taken


def is_writable(sock):
    """Say whether ``sock`` has room for more, and leave it to the hub to make some."""
    try:
        sock._sock.send(b"", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return bool(select.select([], [sock.fileno()], [], 0)[1])


def test_a_reader_that_does_not_read_bounds_what_is_held():
    once, twice = held_back(4 * MB), held_back(8 * MB)
    assert once < MB
    assert twice < once + BUFFER_SIZE


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("hold_eof", [False, True])
def test_a_reset_is_passed_on_as_a_reset(first, hold_eof):
    bound = Bound(hold_eof=hold_eof).start()
    one, other = bound.peers(first)
    one.sendall(b"cut")
    assert other.recv(3) == b"cut"
    closing.reset(one)
    assert is_reset(other)
    assert bound.end() == f"{first} reset"


def test_a_reset_after_a_half_close_is_passed_on_too():
    bound = Bound().start()
    send_and_finish(bound.a, b"question")
    assert read_to_end(bound.b) == b"question"
    bound.b.sendall(b"half an answ")
    assert bound.a.recv(100) == b"half an answ"
    closing.reset(bound.b)
    assert is_reset(bound.a)
    assert bound.end() == "b reset"


ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo long"


def test_an_early_answer_arrives_whole_while_the_upload_goes_on():
    """RFC 9112 9.6: a server answers, sends its FIN and goes on reading for a while, and then closes."""
    bound = Bound().start()
    uploader = gevent.spawn(upload, bound.a)
    read_exactly(bound.b, 10_000)
    send_and_finish(bound.b, ANSWER)
    assert read_to_end(bound.a) == ANSWER
    read_exactly(bound.b, MB)
    bound.b.close()
    with at_most(CAP):
        uploader.get()
    bound.a.close()
    bound.end()


@pytest.fixture
def short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an uploader be waited for half a second, not five."""
    monkeypatch.setattr(closing, "IDLE", 0.5)


def answered_early():
    """Return a relay whose upstream has read all that had come of an upload, has answered, and has closed."""
    bound = Bound().start()
    bound.a.sendall(BULK[:MB])
    read_exactly(bound.b, MB)
    bound.b.sendall(ANSWER)
    bound.b.close()
    return bound


@pytest.mark.usefixtures("short_drain")
def test_an_early_answer_arrives_whole_when_its_sender_closes_at_once():
    """What is uploaded after that meets an RST."""
    bound = answered_early()
    uploader = gevent.spawn(upload, bound.a)
    with at_most(CAP):
        uploader.get()
    assert read_to_end(bound.a) == ANSWER
    assert bound.end() == "b closed early"


@pytest.mark.usefixtures("short_drain")
def test_an_early_answer_is_not_lost_to_an_upload_over_a_slow_link():
    bound = answered_early()
    started = time.monotonic()
    while time.monotonic() - started < 4 * closing.IDLE:
        bound.a.sendall(BULK[:1000])
        gevent.sleep(closing.IDLE / 10)
    assert read_to_end(bound.a) == ANSWER
    assert bound.end() == "b closed early"


@pytest.mark.usefixtures("short_drain")
def test_an_upload_without_end_is_given_up_in_the_end(monkeypatch):
    monkeypatch.setattr(closing, "TOTAL", 1.0)
    bound = answered_early()
    with at_most(CAP):
        assert send_for_ever(bound.a) in (errno.EPIPE, errno.ECONNRESET)
    assert bound.end() == "b closed early"


@pytest.mark.usefixtures("short_drain")
def test_an_early_answer_is_not_lost_to_a_writer_that_reads_late():
    bound = answered_early()
    # One piece after the other, and never a look at the answer before the last one.
    for start in range(MB, 3 * MB, 50_000):
        bound.a.sendall(BULK[start : start + 50_000])
        gevent.sleep(0)
    bound.a.shutdown(socket.SHUT_WR)
    assert read_to_end(bound.a) == ANSWER
    bound.end()


@pytest.mark.usefixtures("short_drain")
def test_an_early_answer_is_not_lost_to_what_is_uploaded_after_its_fin():
    bound = answered_early()
    wait_until(lambda: not bound.relay._b.reading, what="the answer's FIN at the relay")
    uploader = gevent.spawn(upload, bound.a)
    with at_most(CAP):
        # An RST would destroy the answer in many a visitor's kernel before it is read (RFC 9112 9.6).
        assert uploader.get() is None
    assert read_to_end(bound.a) == ANSWER
    bound.end()


def send_for_ever(sock):
    """Send until that fails, and return the error's number."""
    try:
        while True:
            sock.sendall(BULK[:MB])
    except OSError as error:
        return error.errno


def test_a_visitor_that_hangs_up_in_the_middle_of_a_download_stops_its_sender():
    bound = Bound().start()
    sender = gevent.spawn(send_for_ever, bound.b)
    read_exactly(bound.a, MB)
    bound.a.close()
    with at_most(CAP):
        assert sender.get() in (errno.EPIPE, errno.ECONNRESET)
    assert bound.end() in ("a reset", "a closed early")


# A tap.


def test_a_tap_is_shown_every_byte_and_changes_none(make_end):
    tap = Recorder()
    bound = Bound(make_end=make_end, tap=tap).start(to_a=b"for a, ", to_b=b"for b, ")
    writers = [gevent.spawn(send_and_finish, sock, BULK[:MB]) for sock in (bound.a, bound.b)]
    readers = [gevent.spawn(read_to_end, sock) for sock in (bound.a, bound.b)]
    with at_most(30):
        to_a, to_b = [reader.get() for reader in readers]
    gevent.joinall(writers, raise_error=True)
    assert bound.end() == "closed"
    assert (to_a, to_b) == (b"for a, " + BULK[:MB], b"for b, " + BULK[:MB])
    assert tap.seen_from == {True: to_b, False: to_a}
    assert sorted(tap.ends) == [False, True]


def test_a_tap_is_let_go_of_when_the_relay_has_ended():
    tap = Recorder()
    bound = Bound(tap=tap).start()
    bound.a.close()
    bound.b.close()
    bound.end()
    assert bound.relay._tap is None


# An upstream with Nagle's algorithm.


@pytest.fixture
def acknowledged(monkeypatch):
    """How often the relay has asked the kernel to acknowledge at once."""
    asked = []
    monkeypatch.setattr(tapped, "acknowledge", lambda sock: (asked.append(sock), sockets.acknowledge(sock)))
    return asked


def answer_in_two(bound):
    """Ask, and answer in two pieces, the second of which waits until the first one is acknowledged; return how long."""
    bound.a.sendall(b"question")
    read_exactly(bound.b, 8)
    bound.b.sendall(b"head")
    since = time.monotonic()
    wait_until(lambda: sockets.is_acknowledged(bound.b))
    waited = time.monotonic() - since
    bound.b.sendall(b"body")
    read_exactly(bound.a, 8)
    return waited


@pytest.mark.alone
def test_a_prompt_relay_acknowledges_what_comes_from_the_upstream_at_once():
    """The kernel waits for 40 ms, except on a connection that is new."""
    late = {}
    for prompt in (False, True):
        bound = Bound(prompt=prompt).start()
        late[prompt] = sum(answer_in_two(bound) >= 0.03 for _ in range(40))
        bound.relay.abort("enough")
        bound.end()
    assert late[False] > 10
    assert late[True] < late[False] / 4


def test_an_answer_that_is_whole_is_not_acknowledged_by_itself(acknowledged):
    """The next request takes that along, and a system call is saved for most of them."""
    tap = Recorder()
    bound = Bound(tap=tap, prompt=True).start()
    for owed, count in ((False, 0), (True, 1), (False, 1)):
        tap.is_owed = owed
        bound.b.sendall(b"answer")
        read_exactly(bound.a, 6)
        assert len(acknowledged) == count
    bound.relay.abort("enough")
    bound.end()


def test_what_the_visitor_sends_is_never_acknowledged_by_itself(acknowledged):
    bound = Bound(prompt=True).start()
    bound.a.sendall(b"question")
    read_exactly(bound.b, 8)
    assert acknowledged == []
    bound.relay.abort("enough")
    bound.end()
