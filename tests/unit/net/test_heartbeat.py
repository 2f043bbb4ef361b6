"""localtunnel.net.heartbeat: any traffic counts, two intervals may be missed, and the round trip is measured."""

import time

import gevent
import pytest
from harness import backend, pair, read_message, running_server, wait_until
from harness.v3 import Peer, frame

from localtunnel.errors import ConnectionClosed, DeadlineExceeded, Flooded, MessageError
from localtunnel.net.channel import MESSAGES_AT_A_TIME, client_channel
from localtunnel.net.heartbeat import keep_alive
from localtunnel.protocol.limits import MESSAGE_BURST
from localtunnel.protocol.messages import Notice
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_3

pytestmark = pytest.mark.usefixtures("no_leaks")

INTERVAL = 0.2
LATE = 0.15
"""Seconds that a busy machine may take longer."""

PING = frame({"control": "ping"})
PONG = frame({"control": "pong"})


class Kept:
    """A channel that is kept alive in a greenlet, and the peer's end of it."""

    def __init__(self, interval=INTERVAL, handle=None):
        sock, self.peer = pair()
        self.handled, self.trips = [], []
        self.channel = client_channel(sock, LTP_0_3, "the server")
        self.channel.state = State.OPEN
        self.began = time.monotonic()
        self.greenlet = gevent.spawn(self._run, interval, handle or self.handled.append)

    def _run(self, interval, handle):
        try:
            keep_alive(self.channel, interval, handle, self.trips.append)
        except Exception as error:
            return error, time.monotonic() - self.began
        finally:
            self.channel.close()

    def end(self):
        """Return the error that ended it, and after how many seconds."""
        return self.greenlet.get(timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.greenlet.kill()
        self.peer.close()


def read_until_ping(sock):
    """Read messages up to the next ping."""
    while read_message(sock) != {"control": "ping"}:
        pass


def test_silence_ends_it_after_three_intervals():
    with Kept() as kept:
        error, seconds = kept.end()
        assert isinstance(error, DeadlineExceeded)
        assert 3 * INTERVAL <= seconds < 3 * INTERVAL + LATE
        assert [read_message(kept.peer) for _ in range(3)] == [{"control": "ping"}] * 3


@pytest.mark.parametrize("said", [PING, PONG, frame({"notice": "Hello."})], ids=["ping", "pong", "notice"])
def test_any_traffic_counts_and_two_intervals_may_be_missed(said):
    """A word in the third interval after the last one starts the count anew, whatever the word is."""
    interval = 2 * INTERVAL
    with Kept(interval) as kept:
        # The first ping is sent as it begins; each later one says that an interval has passed.
        read_until_ping(kept.peer)
        for _ in range(2):
            read_until_ping(kept.peer)
            read_until_ping(kept.peer)
            last = time.monotonic() - kept.began
            kept.peer.sendall(said)
        error, seconds = kept.end()
        assert isinstance(error, DeadlineExceeded)
        assert seconds - last >= 3 * interval


def test_half_a_message_is_no_traffic():
    """Whoever sends a byte now and then and never a message would hold the tunnel for ever."""
    with Kept() as kept:
        kept.peer.sendall(PONG[:-1])
        _, seconds = kept.end()
        assert seconds < 3 * INTERVAL + LATE


def test_pings_are_answered_at_once():
    with Kept(interval=5.0) as kept:
        kept.peer.sendall(PING * 3)
        assert [read_message(kept.peer) for _ in range(4)] == [{"control": "ping"}] + [{"control": "pong"}] * 3


def test_the_round_trip_is_measured_once_for_each_ping():
    with Kept() as kept:
        assert read_message(kept.peer) == {"control": "ping"}
        gevent.sleep(0.05)
        kept.peer.sendall(PONG * 2)
        wait_until(lambda: kept.trips)
        assert read_message(kept.peer) == {"control": "ping"}
        kept.peer.sendall(PONG)
        wait_until(lambda: len(kept.trips) == 2)
        assert 0.05 <= kept.trips[0] < 0.05 + LATE
        assert 0 < kept.trips[1] < LATE


def test_other_messages_are_handed_on_and_what_their_handler_raises_ends_it():
    def handle(message):
        handled.append(message)
        if len(handled) == 2:
            raise LookupError

    handled = []
    with Kept(handle=handle) as kept:
        kept.peer.sendall(frame({"notice": "one"}) + PONG + frame({"notice": "two"}))
        assert isinstance(kept.end()[0], LookupError)
    assert handled == [Notice("one"), Notice("two")]


def test_the_peers_end_and_its_errors_end_it_at_once():
    with Kept() as kept:
        kept.peer.close()
        assert isinstance(kept.end()[0], ConnectionClosed)
    with Kept() as kept:
        kept.peer.sendall(frame({"proxy": True}))
        assert isinstance(kept.end()[0], MessageError)


def test_the_server_lets_a_client_live_that_talks_and_never_answers():
    """Five times as long as silence may last: pings of its own, and not one pong."""
    with running_server(timeouts={"heartbeat": 0.2}) as server, Peer(backend(server), beat=False) as peer:
        for _ in range(15):
            read_until_ping(peer.control)
            peer.control.sendall(PING)
        while read_message(peer.control) != {"control": "pong"}:
            pass
        assert len(server.registry.tunnels()) == 1


def test_the_server_ends_a_silent_client_after_three_intervals():
    with running_server(timeouts={"heartbeat": 0.1}) as server, Peer(backend(server), beat=False):
        began = time.monotonic()
        wait_until(lambda: not server.registry.tunnels())
        assert 0.3 - 0.05 <= time.monotonic() - began < 0.3 + LATE


# Too many messages.


@pytest.mark.parametrize("said", [PING, PONG, frame({"notice": "Hello."})], ids=["ping", "pong", "notice"])
def test_a_peer_that_sends_without_a_pause_is_ended_after_the_burst(said):
    with Kept(interval=5.0) as kept:
        kept.peer.sendall(said * 10_000)
        error, seconds = kept.end()
        assert isinstance(error, Flooded)
        assert seconds < 5.0
        assert len(kept.handled) == (0 if said in (PING, PONG) else MESSAGE_BURST)


def test_others_have_their_turn_between_the_messages_of_a_burst():
    """All 32 lie there at once: a greenlet that took them in one go would let nobody else in before the last one."""
    turns, at_message = [], []
    with Kept(interval=5.0, handle=lambda message: at_message.append(len(turns))) as kept:
        turn = gevent.get_hub().loop.check()
        turn.start(lambda: turns.append(None))
        kept.peer.sendall(frame({"notice": "Hello."}) * MESSAGE_BURST)
        wait_until(lambda: len(at_message) == MESSAGE_BURST)
        turn.close()

    assert len(set(at_message)) >= MESSAGE_BURST // MESSAGES_AT_A_TIME
