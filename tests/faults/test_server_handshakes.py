"""LTP/0.3 handshakes at the server: requests and replies lost, late, twice, out of order, and cut at every byte.

``unit/server/tunnels/test_assigning`` has the assignment and its answers, ``faults/test_client_handshakes`` the
client's side.
"""

import gevent
import pytest
from harness import (
    backend,
    connect,
    frame,
    read_message,
    read_to_end,
    running_server,
    wait_until,
)
from harness.v3 import HEADER_0_3, Peer, ask, control_request, end, got, parked, proxy_request

pytestmark = pytest.mark.usefixtures("no_leaks")

SHORT = {"timeouts": {"preamble": 0.3, "lease": 0.05, "error_hold": 0.0}}
HOWS = ["FIN", "RST"]


def ended(sock):
    """Read ``sock`` to its end, of either kind; fails when it goes on, or when anything comes."""
    try:
        return read_to_end(sock) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def server():
    with running_server(**SHORT) as running:
        yield running


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["control", "proxy"])
def test_a_request_cut_at_every_byte_leaves_nothing(server, kind, how):
    with Peer(backend(server), "other") as peer:
        data = control_request("demo") if kind == "control" else proxy_request("other", peer.session)
        for size in range(len(data) + 1):
            sock = connect(backend(server))
            sock.sendall(data[:size])
            end(sock, how)
        # A connection that comes after them is decided after them.
        assert ask(backend(server), proxy_request("nobody", peer.session))["error"] == "expired"
        wait_until(lambda: len(server.registry) == 1 and parked(server, "other") == 0)


@pytest.mark.parametrize("kind", ["control", "proxy"])
def test_a_request_that_stops_at_any_byte_is_answered_after_a_while(server, kind):
    with Peer(backend(server), "other") as peer:
        data = control_request("demo") if kind == "control" else proxy_request("other", peer.session)
        stuck = [gevent.spawn(ask, backend(server), data[:size]) for size in range(len(data))]
        gevent.joinall(stuck)
        assert {greenlet.value["error"] for greenlet in stuck} == {"exception"}
        assert len(server.registry) == 1
        assert parked(server, "other") == 0


def test_requests_that_come_byte_by_byte(server):
    with connect(backend(server)) as control, connect(backend(server)) as proxy:
        for byte in control_request("demo"):
            control.sendall(bytes([byte]))
            gevent.sleep(0)
        session = read_message(control)["control"]["session"]
        for byte in proxy_request("demo", session):
            proxy.sendall(bytes([byte]))
            gevent.sleep(0)
        wait_until(lambda: parked(server) == 1)


@pytest.mark.parametrize("how", HOWS)
def test_a_reply_cut_at_every_byte_leaves_a_lease_and_then_nothing(server, how):
    size = len(frame(ask(backend(server), control_request("demo"))))
    for read in range(1, size):
        with connect(backend(server)) as control:
            control.sendall(control_request(f"cut-{read}"))
            assert len(control.recv(read)) == read
            end(control, how)
    assert len(server.registry)
    wait_until(lambda: not len(server.registry), what="the leases have ended")


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (control_request("demo")[len(HEADER_0_3) :], "exception"),
        (proxy_request("demo", "5e" * 16)[len(HEADER_0_3) :], "exception"),
        (got(1), "exception"),
        (frame({"hello": 1}), "exception"),
        (frame({"control": "pang"}), "exception"),
    ],
    ids=["twice", "proxy request", "got", "unknown", "unknown heartbeat"],
)
def test_a_message_that_may_not_come_on_a_control_connection(server, second, code):
    with Peer(backend(server), beat=False) as peer:
        peer.control.sendall(second)
        answers = []
        while not answers or "error" not in answers[-1]:
            answers.append(read_message(peer.control))
        assert answers[-1]["error"] == code
        assert read_to_end(peer.control) == b""
    wait_until(lambda: not len(server.registry))


def test_pongs_that_nobody_asked_for_are_traffic_like_any_other(server):
    with Peer(backend(server)) as peer:
        peer.control.sendall(frame({"control": "pong"}) * 3 + frame({"control": "ping"}))
        wait_until(lambda: {"control": "pong"} in peer.messages)
        assert not peer.ended()


def test_release_is_the_last_word(server):
    with Peer(backend(server)) as peer:
        peer.control.sendall(frame({"release": True}) * 2)
        wait_until(peer.ended)
    assert len(server.registry) == 0


@pytest.mark.parametrize(
    ("session", "code"), [("00" * 16, "unavailable"), (None, "invalid_request"), ("5e", "invalid_request")]
)
def test_a_proxy_request_needs_the_session(server, session, code):
    fields = {"name": "demo"} if session is None else {"name": "demo", "session": session}
    with Peer(backend(server)):
        assert ask(backend(server), HEADER_0_3 + frame({"proxy": fields}))["error"] == code
        assert parked(server) == 0


def test_a_proxy_request_twice_or_a_word_before_the_assignment_ends_the_connection(server):
    with Peer(backend(server)) as peer:
        for early in (proxy_request("demo", peer.session)[len(HEADER_0_3) :], got(1), b"x"):
            sock = peer.park()
            wait_until(lambda: parked(server) == 1)
            sock.sendall(early)
            wait_until(lambda: parked(server) == 0)
            with connect(backend(server)) as together:
                together.sendall(proxy_request("demo", peer.session) + early)
                assert ended(together)
            assert parked(server) == 0
