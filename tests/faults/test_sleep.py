"""A laptop that slept: the client reconnects at once, and takes up nothing that was pending before."""

import itertools

import pytest
from harness import (
    LOOPBACK,
    answer_hello,
    backend,
    fetch,
    frontend,
    is_reset,
    read_head,
    read_message,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.link import Link
from harness.v3 import RawBackend, assignment

from localtunnel.client.events import RoundTripMeasured, TunnelLost, TunnelOpened
from localtunnel.client.sessions import stall

pytestmark = pytest.mark.usefixtures("no_leaks")


class Bed:
    """The boot-time clock of a laptop that may sleep; the monotonic one stands still meanwhile."""

    def __init__(self):
        self.slept = 0.0

    def __call__(self):
        return stall.boot_time() + self.slept


@pytest.fixture
def bed(monkeypatch):
    """Give sessions that clock, look at it often, and take any session for a healthy one, however short."""
    clock = Bed()
    monkeypatch.setattr("localtunnel.client.sessions.session.Stall", lambda: stall.Stall(boottime=clock))
    monkeypatch.setattr("localtunnel.client.sessions.session.TICK", 0.02)
    monkeypatch.setattr("localtunnel.client.retry.HEALTHY", 0.0)
    return clock


def test_the_client_reconnects_at_once_after_a_sleep(bed):
    """Nothing has told it that the link is dead: without the jump of the clock it would take three heartbeats."""
    with (
        running_upstream(answer_hello) as port,
        running_server() as server,
        Link(backend(server)) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=True) as client,
    ):
        client.wait_for(RoundTripMeasured)
        wait_until(lambda: len(link.parked) == 4)
        for line in link.lines:
            line.silence()
        bed.slept += 3600.0
        assert client.wait_for(TunnelOpened, 2, cap=2.0).resumed
        assert [lost.retry_in for lost in client.seen(TunnelLost)] == [0.0]
        assert fetch(frontend(server), request("demo.localhost")).body == b"hello"
        assert len({line.reply["session"] for line in link.lines if line.reply}) == 1


def test_a_short_nap_is_none(bed):
    with (
        running_upstream(answer_hello) as port,
        running_server(timeouts={"heartbeat": 0.05}) as server,
        Link(backend(server)) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=True) as client,
    ):
        bed.slept += stall.STALLED / 2
        before = len(link.controls[0].from_server)
        # Some twenty looks at the clock.
        wait_until(lambda: len(link.controls[0].from_server) > before + 200)
        assert not client.seen(TunnelLost)


def test_an_assignment_from_before_the_sleep_is_not_delivered(bed):
    """The client reads it first when it wakes: its visitor may have gone by then, or been served elsewhere."""
    delivered = []
    with (
        running_upstream(lambda sock: delivered.append(read_head(sock))) as port,
        RawBackend() as raw,
        running_client((LOOPBACK, 9), port, opened=False, name="demo", backend=raw.port, insecure=True) as client,
    ):
        raw.open_tunnel()
        proxy = raw.accept_proxy()
        client.wait_for(TunnelOpened)
        bed.slept += 3600.0
        proxy.sendall(assignment(1) + request("demo.localhost", method="POST", body=b"x"))
        assert is_reset(proxy)
        control, message = raw.accept_control()
        assert message["control"]["resume"]
        control.close()
    assert delivered == []


def test_the_round_trip_is_told_once_and_again_when_it_has_changed_a_lot():
    with RawBackend() as raw:
        timeouts = {"retry_first": 0.01}
        running = running_client(
            (LOOPBACK, 9), 9, opened=False, name="demo", backend=raw.port, insecure=True, timeouts=timeouts
        )
        with running as client:
            control = raw.open_tunnel(heartbeat=0.1)
            raw.accept_proxy()
            for _ in range(8):
                answer_ping(control)
            told = client.seen(RoundTripMeasured)
            assert 0 < told[0].seconds < 1.0
            assert all(is_notable(*pair) for pair in itertools.pairwise(told))


def answer_ping(control):
    while read_message(control) != {"control": "ping"}:
        pass
    control.sendall(b'\x00\x00\x00\x12{"control":"pong"}')


def is_notable(before, after):
    ratio = after.seconds / before.seconds
    return ratio > 2.0 or ratio < 0.5
