"""localtunnel.net.flow.metered: bytes a second, on a clock by hand, and in a relay between real sockets."""

import time

import gevent
import pytest
from harness import (
    CAP,
    at_most,
    fetch,
    frontend,
    pair,
    read_head,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.clock import Clock
from harness.logins import new_token
from harness.relays import BULK, DIGEST, Bound, digest_to_end, send_and_finish

from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.metered import BURST, LEAST_BURST, LEAST_PIECE, Allowance, MeteredEnd

pytestmark = pytest.mark.usefixtures("no_leaks")

RATE = 1_000_000


@pytest.fixture
def clock():
    return Clock()


def test_what_is_spent_beyond_the_credit_is_waited_for(clock):
    bucket = Allowance(RATE, clock)
    bucket.spend(LEAST_BURST)
    assert bucket.wait() == 0
    bucket.spend(RATE)
    assert bucket.wait() == pytest.approx(1.0)
    clock.now += 0.75
    assert bucket.wait() == pytest.approx(0.25)
    clock.now += 0.25
    assert bucket.wait() == pytest.approx(0.0)


def test_no_more_is_saved_up_than_a_burst(clock):
    bucket = Allowance(RATE, clock)
    clock.now += 3600
    assert bucket.wait() == 0
    bucket.spend(int(RATE * BURST))
    assert bucket.wait() == 0
    bucket.spend(RATE)
    assert bucket.wait() == pytest.approx(1.0)


def test_a_rate_that_changes_counts_from_then_on(clock):
    bucket = Allowance(RATE, clock)
    bucket.spend(LEAST_BURST + RATE)
    bucket.rate = RATE // 10
    assert bucket.wait() == pytest.approx(10.0)


@pytest.mark.parametrize("metered", ["a", "b"])
@pytest.mark.parametrize("sender", ["a", "b"])
def test_a_relay_keeps_to_the_rate_in_either_direction(metered, sender):
    size = 400_000
    bucket = Allowance(RATE)

    def make_end(sock, label):
        end = SocketEnd(sock, label)
        return MeteredEnd(end, bucket) if label == metered else end

    bound = Bound(make_end=make_end).start()
    source, sink = bound.peers(sender)
    data = bytes(size)
    with at_most(CAP, "moving the bytes"):
        began = time.monotonic()
        sending = gevent.spawn(send_and_finish, source, data)
        received = 0
        while part := sink.recv(65536):
            received += len(part)
        seconds = time.monotonic() - began
        sending.join()
        sink.shutdown(1)
    assert bound.end() == "closed"
    assert received == size
    # The last read may be of the credit, and what is read in one piece runs into debt.
    least = (size - LEAST_BURST - max(LEAST_PIECE, RATE // 10)) / RATE
    assert seconds >= least * 0.95


def test_a_paused_end_that_is_closed_stays_closed():
    bucket = Allowance(1)
    bound = Bound(make_end=lambda sock, label: MeteredEnd(SocketEnd(sock, label), bucket)).start()
    bound.a.sendall(bytes(LEAST_BURST + 2 * LEAST_PIECE))
    wait_until(lambda: bucket.wait() > 0, what="the credit is used up")
    bound.relay.abort("done")
    assert bound.end() == "done"


def test_an_end_that_pauses_still_sees_what_has_come():
    """Whoever asks whether a connection may go on cannot wait for the pause to be over."""
    bucket = Allowance(1)
    bucket.spend(LEAST_BURST + 1000)
    theirs, ours = pair()
    end = MeteredEnd(SocketEnd(theirs, "peer"), bucket)
    assert end.is_quiet
    ours.send(b"x")
    with pytest.raises(BlockingIOError):
        end.try_read(bytearray(10))
    assert not end.is_quiet
    end.close()
    ours.close()


def test_the_bytes_arrive_whole():
    bucket = Allowance(200_000_000)
    bound = Bound(make_end=lambda sock, label: MeteredEnd(SocketEnd(sock, label), bucket)).start()
    sending = gevent.spawn(send_and_finish, bound.a, BULK)
    with at_most(CAP, "moving the bytes"):
        assert digest_to_end(bound.b) == DIGEST
        sending.join()
    bound.b.shutdown(1)
    assert bound.end() == "closed"


def test_tunnels_of_one_token_share_its_rate(tmp_path):
    body = bytes(300_000)
    rate = 400_000
    token = new_token(tmp_path, bandwidth=rate)

    def answer(sock):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    with (
        running_upstream(answer) as upstream,
        running_server(data_dir=str(tmp_path)) as server,
        running_client(frontend(server), upstream, token=token, name="one"),
        running_client(frontend(server), upstream, token=token, name="two"),
    ):
        began = time.monotonic()
        asked = [request(f"{name}.localhost", fields="Connection: close\r\n") for name in ("one", "two")]
        getting = [gevent.spawn(fetch, frontend(server), each) for each in asked]
        with at_most(CAP, "two answers"):
            assert all(len(each.get().body) == len(body) for each in getting)
        least = (2 * len(body) - LEAST_BURST - 2 * LEAST_PIECE) / rate
        assert time.monotonic() - began >= least * 0.95
