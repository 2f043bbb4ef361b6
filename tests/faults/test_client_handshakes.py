"""LTP/0.3 handshakes at the client: each message lost, late, twice, out of order, and cut at every byte."""

import json

import gevent
import pytest
from harness import (
    LOOPBACK,
    Resources,
    frame,
    is_reset,
    read_exactly,
    read_message,
    read_to_end,
    running_client,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.v3 import RawBackend, assignment, control_reply, end

from localtunnel.client.events import (
    RoundTripMeasured,
    ServerNotice,
    TunnelLost,
    TunnelOpened,
    UpstreamFailed,
    VisitorJoined,
    VisitorLeft,
)
from localtunnel.errors import ClientKicked, ClientReplaced, NameUnavailable, PortRefused

pytestmark = pytest.mark.usefixtures("no_leaks")

HOWS = ["FIN", "RST"]
NOWHERE = (LOOPBACK, 9)
"""The frontend: nobody asks it, for the backend is given."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Refill the pool at once, however often a connection of it has failed."""
    monkeypatch.setattr("localtunnel.client.sessions.proxies.RETRY_FIRST", 0.001)
    monkeypatch.setattr("localtunnel.client.sessions.proxies.RETRY_LONGEST", 0.002)


class Recorder:
    """An upstream that keeps what each connection brought, and answers ``ok`` to each that goes on to its end."""

    def __init__(self):
        self.connections = 0
        self.streams = []

    def __call__(self, sock):
        self.connections += 1
        self.streams.append(read_to_end(sock))
        sock.sendall(b"ok")


def compact(message):
    """Return a frame as the client writes it, without spaces."""
    return frame(json.dumps(message, separators=(",", ":")).encode())


def settled():
    """Return how many descriptors and watchers there are, once the hub has nothing more to do."""
    gevent.idle()
    resources = Resources.now()
    return len(resources.descriptors), resources.watchers


@pytest.fixture
def upstream():
    recorder = Recorder()
    with running_upstream(recorder) as recorder.port:
        yield recorder


@pytest.fixture
def raw():
    with RawBackend() as server:
        yield server


def client_of(raw, target, **settings):
    """Run a client at ``raw`` that reconnects at once; it is not open yet."""
    timeouts = {"retry_first": 0.01, "retry_longest": 0.01, **settings.pop("timeouts", {})}
    return running_client(
        NOWHERE, target, opened=False, name="demo", backend=raw.port, insecure=True, timeouts=timeouts, **settings
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_control_reply_cut_at_every_byte(raw, upstream, how):
    """The tunnel is not open before the reply is whole, and the client comes back, be it with LTP/0.2."""
    with client_of(raw, upstream.port) as client:
        for size in range(len(control_reply())):
            sock = raw.accept_silently()
            read_exactly(sock, 7)
            read_message(sock)
            sock.sendall(control_reply()[:size])
            end(sock, how)
        assert not client.seen(TunnelOpened)
        assert client.seen(TunnelLost)


def test_a_control_reply_byte_by_byte(raw, upstream):
    with client_of(raw, upstream.port) as client:
        control, _ = raw.accept()
        for byte in control_reply():
            control.sendall(bytes([byte]))
            gevent.sleep(0)
        client.wait_for(TunnelOpened)
        raw.accept_proxy()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        frame({"control": "ping"}) + control_reply(),
        frame({"concurrency": 3}) + control_reply(),
        control_reply()[: len(control_reply()) // 2],
        frame({"control": {"host": "demo.localhost"}}),
        frame({"hello": 1}),
        frame({"proxy": True}),
        b"\xff\xff\xff\xff",
    ],
    ids=["lost", "ping first", "concurrency first", "half", "no session", "unknown", "assignment", "no frame"],
)
def test_a_control_reply_that_is_none_ends_the_attempt_without_a_fallback(raw, upstream, answer):
    with client_of(raw, upstream.port, timeouts={"reply": 0.2}) as client:
        control, _ = raw.accept()
        control.sendall(answer)
        raw.open_tunnel()
        client.wait_for(TunnelOpened)
        assert len(client.seen(TunnelLost)) == 1
        assert read_to_end(control) == b"" or is_reset(control)


@pytest.mark.parametrize(
    "message",
    [control_reply(), frame({"proxy": True}), assignment(1), frame({"hello": 1}), frame({"got": 1})],
    ids=["reply twice", "assigned", "assignment", "unknown", "got"],
)
def test_a_message_that_may_not_come_ends_the_session_and_it_is_resumed(raw, upstream, message):
    with client_of(raw, upstream.port) as client:
        control = raw.open_tunnel()
        raw.accept_proxy()
        control.sendall(message)
        _, again = raw.accept_control()
        assert again["control"]["resume"] == "5e" * 16
        assert client.seen(TunnelLost)[0].code == "bad_message"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (frame({"replaced": "Another run has it."}), ClientReplaced),
        (frame({"error": "unavailable", "message": "It is taken."}), NameUnavailable),
        (frame({"error": "port_refused", "message": "It is taken."}), PortRefused),
    ],
)
def test_words_that_end_the_client(raw, upstream, message, kind):
    with client_of(raw, upstream.port) as client:
        if kind is ClientReplaced:
            control = raw.open_tunnel()
            raw.accept_proxy()
        else:
            control, _ = raw.accept()
        control.sendall(message)
        assert isinstance(client.ended(), kind)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (frame({"replaced": "Another run has it."}), ClientReplaced),
        (frame({"error": "kicked", "message": "Enough."}), ClientKicked),
    ],
    ids=["replaced", "kicked"],
)
def test_words_that_end_the_client_do_so_behind_expired(raw, upstream, message, kind):
    """Which comes on another TCP connection, and so before them or after: neither is answered by coming back."""
    with client_of(raw, upstream.port) as client:
        control = raw.open_tunnel()
        proxy = raw.accept_proxy()
        proxy.sendall(frame({"error": "expired", "message": "Gone."}))
        assert read_to_end(proxy) == b""
        control.sendall(message)
        assert isinstance(client.ended(), kind)
        assert not client.seen(TunnelLost)
        raw.listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            raw.accept_silently()


def test_what_the_server_may_say_at_any_time(raw, upstream):
    with client_of(raw, upstream.port) as client:
        control = raw.open_tunnel(size=2)
        first = raw.accept_proxy()
        raw.accept_proxy()
        control.sendall(frame({"control": "pong"}) + frame({"notice": "Hello."}) + frame({"concurrency": 3}))
        raw.accept_proxy()
        assert client.wait_for(ServerNotice).text == "Hello."
        control.sendall(frame({"concurrency": 1}))
        assert read_to_end(first) == b""
        control.sendall(frame({"drain": 7.0}))
        assert "within 7 s" in client.wait_for(ServerNotice, 2).text


@pytest.mark.parametrize("how", HOWS)
def test_an_assignment_cut_at_every_byte_is_not_delivered(raw, upstream, how):
    with client_of(raw, upstream.port):
        raw.open_tunnel()
        for size in range(len(assignment(1))):
            proxy = raw.accept_proxy()
            proxy.sendall(assignment(1)[:size])
            end(proxy, how)
        raw.accept_proxy()
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "message", [frame({"proxy": True}), frame({"control": "ping"}), frame({"hello": 1}), b"\xff" * 4]
)
def test_what_is_no_assignment_is_not_delivered(raw, upstream, message):
    with client_of(raw, upstream.port):
        raw.open_tunnel()
        proxy = raw.accept_proxy()
        proxy.sendall(message)
        raw.accept_proxy()
        assert read_to_end(proxy) == b"" or is_reset(proxy)
    assert upstream.connections == 0


def test_an_assignment_byte_by_byte_with_the_stream_behind_it(raw, upstream):
    with client_of(raw, upstream.port):
        raw.open_tunnel()
        proxy = raw.accept_proxy()
        for byte in assignment(1) + b"hello":
            proxy.sendall(bytes([byte]))
            gevent.sleep(0)
        proxy.shutdown(1)
        assert read_message(proxy) == {"got": 1}
        assert read_message(proxy) == {"ready": 1}
        assert read_to_end(proxy) == b"ok"
    assert upstream.streams == [b"hello"]


def test_an_assignment_twice_on_one_connection_is_the_visitors_stream(raw, upstream):
    with client_of(raw, upstream.port):
        raw.open_tunnel()
        proxy = raw.accept_proxy()
        proxy.sendall(assignment(1) * 2)
        proxy.shutdown(1)
        assert read_message(proxy) == {"got": 1}
        assert read_message(proxy) == {"ready": 1}
        assert read_to_end(proxy) == b"ok"
    assert upstream.streams == [assignment(1)]


def test_an_assignment_twice_is_taken_once(raw, upstream):
    with client_of(raw, upstream.port) as client:
        raw.open_tunnel(size=3)
        proxies = [raw.accept_proxy() for _ in range(3)]
        for proxy in proxies:
            proxy.sendall(assignment(7) + b"hello")
            proxy.shutdown(1)
        answers = [read_message(proxy) for proxy in proxies]
        assert sorted(answers, key=str) == [{"failed": {"id": 7, "error": "seen"}}] * 2 + [{"got": 7}]
        client.wait_for(VisitorLeft)
    assert upstream.streams == [b"hello"]


def test_an_assignment_that_the_server_has_given_up_is_not_delivered(raw, upstream):
    """The reset is here before the client reads: it came while the client stood still."""
    with client_of(raw, upstream.port):
        raw.open_tunnel()
        for number in range(1, 20):
            proxy = raw.accept_proxy()
            proxy.sendall(assignment(number) + b"hello")
            end(proxy, "RST")
        raw.accept_proxy()
    assert upstream.connections == 0


def test_the_upstreams_failure_is_told_behind_got(raw):
    with client_of(raw, unused_port()) as client:
        raw.open_tunnel()
        proxy = raw.accept_proxy()
        proxy.sendall(assignment(1))
        assert read_message(proxy) == {"got": 1}
        assert read_message(proxy) == {"failed": {"id": 1, "error": "refused"}}
        assert read_to_end(proxy) == b""
        client.wait_for(UpstreamFailed)


@pytest.mark.parametrize("how", HOWS)
def test_the_clients_answers_cut_at_every_byte(raw, upstream, how):
    """The server has gone at any byte of them: the visit ends, at the upstream as well, and nothing is left over."""
    size = len(compact({"got": 100}) + compact({"ready": 100}))
    with client_of(raw, upstream.port) as client:
        control = raw.open_tunnel()
        proxy = raw.accept_proxy()
        assert read_message(control) == {"control": "ping"}
        control.sendall(frame({"control": "pong"}))
        client.wait_for(RoundTripMeasured)
        # Asked in the same way as below: a wait has a timer of its own.
        before = wait_until(settled)
        # A connection that was reset before the client had read anything is one that the server has given up.
        for read in range(how == "RST", size + 1):
            proxy.sendall(assignment(100 + read) + b"hello")
            read_exactly(proxy, read)
            end(proxy, how)
            raw.sockets.remove(proxy)
            proxy = raw.accept_proxy()
            client.wait_for(VisitorLeft, read + (how == "FIN"))
        wait_until(lambda: not client.client.visitors)
        assert len(client.seen(VisitorJoined)) == len(client.seen(VisitorLeft)) == size + (how == "FIN")
        wait_until(lambda: settled() <= before, what=f"no more than {before}")
