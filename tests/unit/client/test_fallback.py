"""localtunnel.client.fallback: LTP/0.2 where it was asked for, and nothing lost by it."""

import pytest
from gevent import socket
from gevent.server import StreamServer
from harness import (
    HEADER_0_2,
    LOOPBACK,
    RETRY_SOON,
    answer_hello,
    fetch,
    frame,
    frontend,
    listening,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.server_2013 import Server2013
from harness.v3 import RawBackend

from localtunnel.cli.exit_codes import exit_code
from localtunnel.client.events import ServerNotice, TunnelLost, TunnelOpened
from localtunnel.client.trust.known_servers import Known, KnownServers
from localtunnel.errors import ConnectionClosed, NameUnavailable, VersionError

pytestmark = pytest.mark.usefixtures("no_leaks")

SERVER = (LOOPBACK, 9)
KNOWN_AS = f"{LOOPBACK}:9"
ASKED_FOR = pytest.mark.parametrize("how", [{"insecure": True}, {"legacy": True}], ids=["insecure", "legacy"])

NEEDING_MORE = [
    {"protect": "ann:secret"},
    {"allow_ip": ["10.0.0.0/8"]},
    {"host_header": "rewrite"},
    {"request_header_add": ["X-A: b"]},
    {"request_header_remove": ["X-A"]},
    {"response_header_add": ["X-A: b"]},
    {"cors": True},
    {"server_timing": True},
    {"domain": "www.example.org"},
    {"kind": "tcp"},
]


def meeting(server, **settings):
    """Run a client of ours at ``server``, which it has not reached yet."""
    settings = {"name": "demo", "backend": server.port, "timeouts": RETRY_SOON, **settings}
    return running_client(SERVER, unused_port(), opened=False, **settings)


class Closing:
    """What takes every connection and closes it unanswered: a port that is forwarded to nothing."""

    def __init__(self):
        self.openings = []
        self._server = StreamServer(listening(), self._close)
        self._server.start()
        self.port = self._server.address[1]

    def _close(self, sock, _):
        self.openings.append(sock.recv(7, socket.MSG_WAITALL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop(timeout=0)


# Asked for, or not.


def test_whoever_cuts_handshakes_gets_handshakes_and_nothing_else():
    """At the first contact nobody can tell a server of 2013 from one that is out of room, or from an attacker."""
    with Closing() as raw, meeting(raw) as client:
        client.wait_for(TunnelLost, 20)
        assert all(start.startswith(b"\x16\x03") for start in raw.openings)
        assert not client.seen(ServerNotice)


def test_a_user_at_first_contact_is_told_what_may_be_wrong_and_what_to_do():
    with Server2013() as raw, meeting(raw) as client:
        message = client.wait_for(TunnelLost).message
        assert "closed the connection without an answer" in message
        assert "may have no room now" in message
        assert "--legacy" in message
    with Server2013() as raw, meeting(raw, protect="ann:secret") as client:
        message = client.wait_for(TunnelLost).message
        assert "--protect needs LTP/0.3" in message
        assert "--legacy" not in message
        assert "secret" not in message


@ASKED_FOR
def test_a_server_of_2013_is_met_where_that_was_asked_for(how):
    with Server2013() as raw, meeting(raw, **how) as client:
        assert client.wait_for(TunnelOpened).url == "http://demo.example.com"
        assert set(raw.requests[0]) == {"name", "client"}
        (notice,) = client.seen(ServerNotice)
        assert "LTP/0.2, which has no encryption" in notice.text


def test_a_visitor_is_served_over_it():
    with (
        running_upstream(answer_hello) as port,
        running_server(legacy="only") as server,
        running_client(frontend(server), port, name="demo", legacy=True),
    ):
        assert fetch(frontend(server), request("demo.localhost")).body == b"hello"


@ASKED_FOR
def test_the_fallback_is_said_once_and_each_session_begins_with_0_3(how):
    with Server2013() as raw, meeting(raw, **how) as client:
        for count in range(1, 4):
            client.wait_for(TunnelOpened, count)
            raw.end_tunnels()
        client.wait_for(TunnelOpened, 4)
        assert len(client.seen(ServerNotice)) == 1
        newer = [start for start in raw.openings if start != HEADER_0_2]
        assert len(newer) == 4


@pytest.mark.parametrize("given", [{"fingerprint": "SHA256:" + "A" * 43}])
def test_a_server_that_is_known_by_a_key_has_no_fallback_even_if_asked_for(given):
    with Closing() as raw, meeting(raw, legacy=True, **given) as client:
        client.wait_for(TunnelLost, 3)
        assert all(start.startswith(b"\x16\x03") for start in raw.openings)


# What would be lost.


@ASKED_FOR
@pytest.mark.parametrize("needed", NEEDING_MORE, ids=lambda needed: next(iter(needed)))
def test_nothing_that_was_asked_for_is_lost_in_a_fallback(needed, how):
    with Server2013() as raw, meeting(raw, **needed, **how) as client:
        error = client.ended()
        assert (type(error), exit_code(error)) == (VersionError, 7)
        key = next(iter(needed))
        assert ("a TCP tunnel" if key == "kind" else "--" + key.replace("_", "-")) in str(error)
        assert "needs LTP/0.3" in str(error)
        assert "secret" not in str(error)
        assert raw.requests == []


def test_a_server_that_says_so_itself_ends_a_client_with_options():
    with RawBackend() as raw, meeting(raw, cors=True, protect="ann:secret", insecure=True) as client:
        control, _ = raw.accept()
        control.sendall(frame({"error": "version", "message": "LTP/0.2 only."}))
        error = client.ended()
        assert (type(error), exit_code(error)) == (VersionError, 7)
        assert "--protect and --cors need LTP/0.3" in str(error)


@ASKED_FOR
@pytest.mark.parametrize("needed", [{}, {"protect": "ann:secret"}], ids=["nothing", "protect"])
def test_a_port_that_leads_nowhere_is_not_taken_for_a_server_of_2013(needed, how):
    """It closes whatever is said. A server that is being restarted does so too, and is there again in a while."""
    with Closing() as raw, meeting(raw, **needed, **how) as client:
        client.wait_for(TunnelLost, 4)
        assert {lost.code for lost in client.seen(TunnelLost)} == {ConnectionClosed.code}
        assert not client.greenlet.dead


# Names.


@ASKED_FOR
def test_a_name_that_is_taken_at_a_server_of_2013_ends_the_client_with_exit_code_5(how):
    """That server says nothing when a name is taken, but closes."""
    with Server2013("demo") as raw, meeting(raw, **how) as client:
        error = client.ended()
        assert (type(error), exit_code(error)) == (NameUnavailable, 5)
        assert "the name 'demo'" in str(error)
        assert client.seen(TunnelLost) == []
        assert raw.requests == []


@ASKED_FOR
def test_a_generated_name_has_letters_and_digits_there_and_stays(how):
    """That server finds no other names, and answers their visitors 410."""
    with Server2013() as raw, meeting(raw, name=None, **how) as client:
        name = client.wait_for(TunnelOpened).name
        assert raw.finds(name)
        assert len(client.seen(ServerNotice)) == 1
        raw.end_tunnels()
        assert client.wait_for(TunnelOpened, 2).name == name
        assert [asked["name"] for asked in raw.requests] == [name, name]


def test_a_generated_name_that_is_taken_there_is_replaced_by_another():
    with Server2013() as raw:
        raw.taken = Everything(3)
        with meeting(raw, name=None, insecure=True) as client:
            name = client.wait_for(TunnelOpened).name
            assert raw.finds(name)
            assert name not in raw.taken.asked[:3]


class Everything:
    """The first ``count`` names that are asked for."""

    def __init__(self, count):
        self.count = count
        self.asked = []

    def __contains__(self, name):
        self.asked.append(name)
        return len(self.asked) <= self.count


def test_whoever_chose_a_name_that_is_not_found_there_is_told():
    with Server2013() as raw, meeting(raw, name="my-app", insecure=True) as client:
        assert client.wait_for(TunnelOpened).name == "my-app"
        _, told = client.seen(ServerNotice)
        assert "letters and digits only" in told.text


# What was met before.


def open_at_0_3(directory):
    with RawBackend() as raw, meeting(raw, insecure=True, data_dir=str(directory)) as client:
        raw.open_tunnel()
        client.wait_for(TunnelOpened)


@ASKED_FOR
def test_a_server_that_spoke_0_3_in_the_clear_has_no_fallback_in_a_later_run(tmp_path, how):
    open_at_0_3(tmp_path)
    assert KnownServers(tmp_path).find(KNOWN_AS) == Known("clear", None, 3)
    with Server2013() as raw, meeting(raw, data_dir=str(tmp_path), **how) as client:
        client.wait_for(TunnelLost, 3)
        assert HEADER_0_2 not in raw.openings
        assert not client.seen(ServerNotice)


def test_a_server_that_went_back_is_named_with_the_line_that_stands_in_the_way(tmp_path):
    open_at_0_3(tmp_path)
    with RawBackend() as raw, meeting(raw, insecure=True, data_dir=str(tmp_path)) as client:
        control, _ = raw.accept()
        control.sendall(frame({"error": "version", "message": "LTP/0.2 only."}))
        error = client.ended()
        assert exit_code(error) == 7
        assert f"remove line 3 of {tmp_path}/known-servers" in str(error)


def test_a_fallback_is_not_taken_for_a_meeting_at_0_3(tmp_path):
    for _ in range(2):
        with Server2013() as raw, meeting(raw, insecure=True, data_dir=str(tmp_path)) as client:
            client.wait_for(TunnelOpened)
    assert KnownServers(tmp_path).find(KNOWN_AS) is None


def test_a_server_that_was_met_in_the_clear_can_be_met_over_tls_and_not_the_other_way_round(tmp_path):
    with running_server() as server:
        settings = {"name": "demo", "data_dir": str(tmp_path)}
        with running_client(frontend(server), 1, insecure=True, **settings):
            pass
        known_as = f"{LOOPBACK}:{frontend(server)[1]}"
        assert KnownServers(tmp_path).find(known_as).mode == "clear"
        wait_until(lambda: not len(server.registry))
        with running_client(frontend(server), 1, **settings):
            pass
        assert KnownServers(tmp_path).find(known_as).mode == "pin"
        assert (tmp_path / "known-servers").read_text().count(known_as) == 1
