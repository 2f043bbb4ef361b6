"""localtunnel.client.sessions.session: one control connection of LTP/0.2, against a server made of sockets."""

from pathlib import Path

import gevent
import pytest
from harness import (
    LOOPBACK,
    RawServer,
    at_most,
    frame,
    read_message,
    read_to_end,
    wait_until,
)

from localtunnel.client.config import ClientConfig, Timeouts
from localtunnel.client.sessions import session as session_module
from localtunnel.client.sessions.opening import refusal
from localtunnel.client.sessions.session import Session
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.link import Link
from localtunnel.client.trust.trust import Trust
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visits import Visits
from localtunnel.errors import (
    AuthFailed,
    ClientKicked,
    ConnectionClosed,
    DeadlineExceeded,
    FrameError,
    MessageError,
    NameUnavailable,
    PortRefused,
    RemoteFailure,
    TunnelExpired,
    Unreachable,
    VersionError,
)
from localtunnel.net import closing
from localtunnel.net.address import HostPort, parse_target
from localtunnel.protocol import limits
from localtunnel.protocol.messages import ControlReply, ControlRequest, ErrorReply
from localtunnel.protocol.version import LTP_0_2

pytestmark = pytest.mark.usefixtures("no_leaks")

ME = "me@laptop;Linux;1"


def unknown_server():
    """How a server is reached that nobody has met."""
    return Link(Trust("localhost:80", KnownServers(Path("/nonexistent"))))


class Running:
    """A session in a greenlet."""

    def __init__(self, port, **timeouts):
        config = ClientConfig(target=1, timeouts=Timeouts(**{"connect": 5.0, "reply": 5.0, **timeouts}))
        self.replies = []
        visits = Visits(Upstream(parse_target(1), 1.0), print)
        self.session = Session(config, LTP_0_2, ControlRequest("foo", ME), unknown_server(), visits, print)
        self._greenlet = gevent.spawn(self._run, HostPort(LOOPBACK, port))

    def _run(self, backend):
        try:
            self.session.run(backend, self.replies.append)
        except Exception as error:
            return error

    def error(self):
        """Return the exception with which the session ended."""
        with at_most(10, "the end of the session"):
            return self._greenlet.get()

    def close(self):
        self._greenlet.kill()


@pytest.fixture
def server():
    with RawServer() as raw:
        yield raw


@pytest.fixture
def running(server):
    """Returns a function that starts a session; it is killed after the test."""
    started = []

    def start(**timeouts):
        started.append(Running(server.port, **timeouts))
        return started[-1]

    yield start
    for session in started:
        session.close()


def test_the_request_is_that_of_0_2_and_carries_nothing_else(server, running):
    running()
    _, message = server.accept()
    assert message == {"control": {"name": "foo", "client": ME}}


def test_the_reply_is_told_and_opens_the_session(server, running):
    session = running()
    assert session.session.lasted == 0.0
    server.open_tunnel(concurrency=2, banner="Hello.")
    wait_until(lambda: session.replies)
    assert session.replies == [ControlReply("foo.example.com:8000", 2, "Hello.")]
    assert session.session.opened
    assert session.session.lasted > 0.0


def test_a_reply_without_banner_and_with_unknown_fields_is_taken(server, running):
    session = running()
    control, _ = server.accept()
    control.sendall(frame({"control": {"host": "h", "new": [1, {"a": 2}]}, "also": "new"}))
    wait_until(lambda: session.replies)
    assert session.replies == [ControlReply("h", 1, "")]


def test_a_reply_may_come_byte_by_byte(server, running):
    session = running()
    control, _ = server.accept()
    for byte in frame({"control": {"host": "h", "concurrency": 1, "banner": ""}}) + frame({"control": "ping"}):
        control.sendall(bytes([byte]))
        gevent.sleep(0)
    assert read_message(control) == {"control": "pong"}
    assert len(session.replies) == 1


def test_pings_are_answered(server, running):
    running()
    control = server.open_tunnel()
    for _ in range(5):
        control.sendall(frame({"control": "ping"}))
        assert read_message(control) == {"control": "pong"}


def test_a_server_that_pings_no_more_is_dead(server, running):
    session = running(heartbeat=0.2)
    control = server.open_tunnel()
    control.sendall(frame({"control": "ping"}))
    assert read_message(control) == {"control": "pong"}
    assert isinstance(session.error(), DeadlineExceeded)
    assert read_to_end(control) == b""


@pytest.mark.parametrize(("asked", "kept"), [(None, 5.0), (2.5, 2.5), (1e-9, 0.05), (86400.0, 60.0)])
def test_the_interval_that_a_server_asks_for_is_bounded(asked, kept):
    assert session_module.interval_of(ControlReply("foo.localhost", heartbeat=asked)) == kept


def test_a_server_that_does_not_reply_is_dead(server, running):
    session = running(reply=0.2)
    server.accept()
    assert isinstance(session.error(), DeadlineExceeded)


def test_a_server_that_closes_without_an_answer_is_told(server, running):
    session = running()
    control, _ = server.accept()
    control.close()
    error = session.error()
    assert isinstance(error, ConnectionClosed)
    assert f"127.0.0.1:{server.port}" in str(error)
    assert not session.session.opened
    assert session.session.connected
    assert not session.session.answered


def test_a_part_of_an_answer_is_an_answer(server, running):
    """The server speaks our version, so that its end is no reason to try another one."""
    session = running()
    control, _ = server.accept()
    control.sendall(b"\0")
    control.close()
    assert isinstance(session.error(), ConnectionClosed)
    assert session.session.answered


@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_the_end_of_the_control_connection_ends_the_session_and_its_pool(server, running, end):
    session = running()
    control = server.open_tunnel(concurrency=2)
    proxies = [server.accept_proxy() for _ in range(2)]
    end(control)
    assert isinstance(session.error(), ConnectionClosed)
    assert [read_to_end(proxy) for proxy in proxies] == [b"", b""]


def test_nobody_listening_is_unreachable(server, running):
    server.stop_listening()
    session = running()
    assert isinstance(session.error(), Unreachable)
    assert not session.session.connected


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unavailable", NameUnavailable),
        ("expired", TunnelExpired),
        ("exception", RemoteFailure),
        ("version", VersionError),
        ("port_refused", PortRefused),
        ("something new", RemoteFailure),
    ],
)
def test_an_error_instead_of_a_reply_is_the_sessions_end(server, running, code, kind):
    session = running()
    control, _ = server.accept()
    control.sendall(frame({"error": code, "message": "The server's own words."}))
    error = session.error()
    assert type(error) is kind
    assert str(error) == "The server's own words."
    assert session.session.answered
    assert not session.session.opened


def test_an_error_without_a_message_is_still_a_sentence():
    assert str(refusal(ErrorReply("exception"))) == "The server answered 'exception'."


def test_an_error_on_the_open_connection_is_the_sessions_end(server, running):
    session = running()
    server.open_tunnel().sendall(frame({"error": "exception", "message": "Out of memory."}))
    assert isinstance(session.error(), RemoteFailure)


WRONG_REPLIES = {
    "an assignment": (frame({"proxy": True}), MessageError),
    "a ping": (frame({"control": "ping"}), MessageError),
    "an unknown message": (frame({"hello": 1}), MessageError),
    "a word of LTP/0.3": (frame({"concurrency": 3}), MessageError),
    "a reply without a host": (frame({"control": {"concurrency": 1}}), MessageError),
    "a negative frame": (b"\xff\xff\xff\xff", FrameError),
    "no JSON": (frame(b"\x00\x01"), FrameError),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", FrameError),
}


@pytest.mark.parametrize("case", WRONG_REPLIES)
def test_a_wrong_reply_is_the_sessions_end(server, running, case):
    sent, kind = WRONG_REPLIES[case]
    session = running()
    control, _ = server.accept()
    control.sendall(sent)
    assert isinstance(session.error(), kind)
    assert not session.session.opened


@pytest.mark.parametrize(
    "sent",
    [
        frame({"control": {"host": "again"}}),
        frame({"proxy": True}),
        frame({"concurrency": 3}),
        (limits.MAX_HEARTBEAT + 1).to_bytes(4, "big"),
    ],
    ids=["a second reply", "an assignment", "a word of LTP/0.3", "a message over 4 KiB"],
)
def test_what_may_not_come_on_the_open_connection_is_the_sessions_end(server, running, sent):
    session = running()
    server.open_tunnel().sendall(sent)
    assert isinstance(session.error(), MessageError | FrameError)


def test_a_tunnel_that_has_expired_ends_the_session_a_moment_later(server, running, monkeypatch):
    """Until then it answers pings, and opens nothing."""
    monkeypatch.setattr(session_module, "LAST_WORDS", 0.3)
    session = running()
    control = server.open_tunnel(concurrency=3)
    parked = [server.accept_proxy() for _ in range(3)]
    for proxy in parked[:2]:
        proxy.sendall(frame({"error": "expired", "message": "Gone."}))
        assert read_to_end(proxy) == b""
    control.sendall(frame({"control": "ping"}))
    assert read_message(control) == {"control": "pong"}
    error = session.error()
    assert (type(error), str(error)) == (TunnelExpired, "Gone.")
    assert read_to_end(control) == b""
    assert read_to_end(parked[2]) == b""
    nothing_more(server)


@pytest.mark.parametrize(
    ("word", "kind"), [("kicked", ClientKicked), ("auth_failed", AuthFailed), ("exception", RemoteFailure)]
)
def test_what_the_server_says_after_that_is_why_the_session_ended(server, running, word, kind):
    session = running()
    control = server.open_tunnel()
    proxy = server.accept_proxy()
    proxy.sendall(frame({"error": "expired", "message": "Gone."}))
    assert read_to_end(proxy) == b""
    control.sendall(frame({"error": word, "message": "Because."}))
    error = session.error()
    assert (type(error), str(error)) == (kind, "Because.")
    nothing_more(server)


def nothing_more(server):
    """The session is over, so that whatever it has opened is there to be accepted."""
    server.listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        server.accept_silently()


def test_a_session_that_is_killed_closes_everything(server, running):
    session = running()
    control = server.open_tunnel(concurrency=2)
    proxies = [server.accept_proxy() for _ in range(2)]
    session.close()
    assert [read_to_end(sock) for sock in (control, *proxies)] == [b"", b"", b""]
