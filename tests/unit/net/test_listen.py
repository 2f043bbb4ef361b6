"""localtunnel.net.listen: listening sockets, and staying calm when descriptors run out."""

import logging
import os
import resource
import socket
from contextlib import contextmanager, suppress

import pytest
from harness import LOOPBACK, connect, listening, unused_port, wait_until

from localtunnel.errors import ListenError
from localtunnel.net import closing
from localtunnel.net.address import parse_bind
from localtunnel.net.descriptors import Share
from localtunnel.net.listen import QUIET, SHORTEST_PAUSE, listen

pytestmark = pytest.mark.usefixtures("no_leaks")


class Accepted:
    """Takes over what a listener accepts."""

    def __init__(self):
        self.sockets = []
        self.hosts = []
        self.ports = []

    def __call__(self, sock, host, port):
        self.sockets.append(sock)
        self.hosts.append(host)
        self.ports.append(port)

    def wait(self, count=1):
        wait_until(lambda: len(self.sockets) >= count, what=f"{count} connections, having {self.hosts}")

    def close(self):
        for sock in self.sockets:
            closing.close(sock)


@pytest.fixture
def accepted():
    taken = Accepted()
    yield taken
    taken.close()


@pytest.fixture
def started():
    """Returns a function that listens and starts; everything is stopped after the test."""
    running = []

    def start(bind, accept, *, loopback=True):
        listeners = listen(parse_bind(bind), loopback=loopback, accept=accept, what="frontend")
        running.extend(listeners)
        for listener in listeners:
            listener.start()
        return listeners

    yield start
    for listener in running:
        listener.stop()


def test_without_a_host_it_is_both_loopbacks_on_one_port(started, accepted):
    listeners = started(0, accepted)
    addresses = [listener.address[:2] for listener in listeners]
    port = addresses[0][1]
    assert addresses == [("127.0.0.1", port), ("::1", port)]
    assert [listener.bound for listener in listeners] == [f"127.0.0.1:{port}", f"[::1]:{port}"]
    ours = [connect(address) for address in addresses]
    accepted.wait(2)
    assert sorted(accepted.hosts) == ["127.0.0.1", "::1"]
    assert sorted(accepted.ports) == sorted(sock.getsockname()[1] for sock in ours)
    for sock in ours:
        sock.close()


def test_every_interface_takes_both_families_and_shows_v4_as_v4(started, accepted):
    listeners = started(":0", accepted, loopback=False)
    assert [listener.address[0] for listener in listeners] == ["::"]
    port = listeners[0].address[1]
    ours = [connect((LOOPBACK, port)), connect(("::1", port))]
    accepted.wait(2)
    assert sorted(accepted.hosts) == ["127.0.0.1", "::1"]
    assert sorted(accepted.ports) == sorted(sock.getsockname()[1] for sock in ours)
    for sock in ours:
        sock.close()


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")])
def test_a_host_is_listened_on_alone(started, accepted, bind, host):
    listeners = started(bind, accepted, loopback=False)
    assert [listener.address[0] for listener in listeners] == [host]


def test_the_socket_is_prepared_and_belongs_to_the_callback(started, accepted):
    (listener,) = started("127.0.0.1:0", accepted)
    ours = connect(listener.address)
    accepted.wait()
    (sock,) = accepted.sockets
    assert type(sock) is socket.socket
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    sock.send(b"still open")
    assert ours.recv(100) == b"still open"
    ours.close()


def test_stop_refuses_new_connections_and_leaves_the_accepted_ones(started, accepted):
    (listener,) = started("127.0.0.1:0", accepted)
    address = listener.address
    ours = connect(address)
    accepted.wait()
    listener.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    accepted.sockets[0].send(b"x")
    assert ours.recv(1) == b"x"
    ours.close()


def test_a_port_that_is_taken_is_told_with_advice(accepted):
    taken = listening()
    port = taken.getsockname()[1]
    with pytest.raises(ListenError, match=rf"Cannot listen on 127\.0\.0\.1:{port}: another program .* --frontend\.$"):
        listen(parse_bind(f"127.0.0.1:{port}"), loopback=True, accept=accepted, what="frontend")
    taken.close()


def test_a_port_that_is_taken_on_the_second_address_leaves_the_first_free(accepted):
    port = unused_port()
    taken = listening("::1", port)
    with pytest.raises(ListenError, match=rf"\[::1\]:{port}"):
        listen(parse_bind(port), loopback=True, accept=accepted, what="backend")
    listening(port=port).close()
    taken.close()


def test_an_address_of_another_machine_is_told(accepted):
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: no interface of this machine"):
        listen(parse_bind("192.0.2.1:0"), loopback=True, accept=accepted, what="frontend")


def test_a_name_that_is_no_address_is_told(accepted):
    with pytest.raises(ListenError, match="Cannot listen on"):
        listen(parse_bind("nowhere.invalid:0"), loopback=True, accept=accepted, what="frontend")


def test_without_descriptors_accepting_pauses_and_resumes_by_itself(started, accepted, caplog):
    caplog.set_level(logging.DEBUG, "localtunnel")
    (listener,) = started("127.0.0.1:0", accepted)
    joined = connect(listener.address)
    accepted.wait()
    waiting = [socket.socket() for _ in range(3)]
    with no_free_descriptor():
        for sock in waiting:
            sock.connect(listener.address)
        wait_until(lambda: listener._pauses >= 3)
        assert [record.getMessage() for record in caplog.records] == ["cannot accept, pausing"]
        assert len(accepted.sockets) == 1
        accepted.sockets[0].send(b"joined traffic goes on")
        assert joined.recv(100) == b"joined traffic goes on"
    accepted.wait(4)
    assert [record.getMessage() for record in caplog.records] == ["cannot accept, pausing", "accepting again"]
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[1].pauses >= 3
    for sock in (joined, *waiting):
        sock.close()


class RecordingLoop:
    """The hub's loop, and for how long each timer was set."""

    def __init__(self, loop):
        self._loop = loop
        self.timers = []

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def timer(self, seconds, *args):
        self.timers.append(seconds)
        return self._loop.timer(seconds, *args)


def test_the_pauses_grow(started, accepted, monkeypatch):
    (listener,) = started("127.0.0.1:0", accepted)
    loop = RecordingLoop(listener.loop)
    monkeypatch.setattr(listener, "loop", loop)
    with socket.socket() as ours:
        with no_free_descriptor():
            ours.connect(listener.address)
            wait_until(lambda: len(loop.timers) >= 3)
        assert loop.timers[:3] == [SHORTEST_PAUSE * factor for factor in (1, 2, 4)]
        accepted.wait()


def test_a_shortage_that_comes_and_goes_is_told_once_in_a_while(started, accepted, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "localtunnel")
    (listener,) = started("127.0.0.1:0", accepted)
    loop = RecordingLoop(listener.loop)
    monkeypatch.setattr(listener, "loop", loop)
    ours = []

    def run_short():
        """Let somebody come while there is no descriptor, and be accepted when there is one again."""
        pauses = len(loop.timers)
        ours.append(socket.socket())
        with no_free_descriptor():
            ours[-1].connect(listener.address)
            wait_until(lambda: len(loop.timers) > pauses)
        accepted.wait(len(ours))

    for _ in range(5):
        run_short()
    told = ["cannot accept, pausing", "accepting again"]
    assert [record.getMessage() for record in caplog.records] == told
    monkeypatch.setattr(listener, "_told_at", listener._told_at - QUIET)
    run_short()
    assert [record.getMessage() for record in caplog.records] == told * 2
    for sock in ours:
        sock.close()


@contextmanager
def no_free_descriptor():
    """Lower this process's limit and use up what is left below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in fillers:
            os.close(number)


def test_beyond_its_share_a_listener_takes_the_place_of_what_gives_way(accepted):
    """Where nothing gives way, whoever accepts sees by the number that there are no more."""
    fillers = [socket.socket() for _ in range(32)]
    idle = fillers.pop()
    number = idle.fileno()

    def give_way():
        nonlocal idle
        if idle is None:
            return False
        idle.close()
        idle = None
        return True

    share = Share(0, give_way)
    (listener,) = listen(parse_bind("127.0.0.1:0"), loopback=True, accept=accepted, what="frontend", share=share)
    fillers.extend(socket.socket() for _ in range(2))
    listener.start()
    try:
        for count in (1, 2):
            with connect(listener.address[:2]) as peer:
                wait_until(lambda count=count: len(accepted.sockets) == count)
                accepted.sockets[-1].send(b"x")
                assert peer.recv(1) == b"x"
        first, second = (sock.fileno() for sock in accepted.sockets)
        assert first == number
        assert second > number
    finally:
        listener.stop()
        for sock in fillers:
            sock.close()
