"""localtunnel.server.access.auth: who is admitted, on real connections, and how an
address that fails is slowed down.
"""

import re
import time

import pytest
from harness import (
    HEADER_0_2,
    RawClient,
    backend,
    connect,
    frame,
    frontend,
    is_reset,
    read_message,
    request,
    running_client,
    running_server,
    wait_until,
)
from harness.clock import Clock
from harness.link import Link
from harness.logins import RawLogin, change_token, encrypt, fingerprint, new_token
from harness.v3 import Peer, ask, control_request, got, park, ready

from localtunnel.client.events import TunnelLost, TunnelOpened
from localtunnel.errors import AuthFailed, AuthRequired, AuthThrottled, KeyChanged, NotAllowed, TokenExpired
from localtunnel.protocol.login.scram import REFUSED, ClientLogin
from localtunnel.protocol.login.token import Token
from localtunnel.server import app
from localtunnel.server.access import auth
from localtunnel.server.access.auth import FAILURE_INTERVAL, FREE_FAILURES, MAX_ADDRESSES, WORST_DEBT, Failures

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = {"error_hold": 0.0}


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def token(directory):
    return new_token(directory)


@pytest.fixture
def server(directory, monkeypatch):
    monkeypatch.setattr(app, "TICK", 0.1)
    with running_server(data_dir=str(directory), timeouts=QUICK, custom_hosts=["www.example.org"]) as running:
        yield running


def unknown(token):
    return Token("aaaaaaaa", token.secret, token.fingerprint)


def wrong(token):
    return Token(token.id, "a" * 26, token.fingerprint)


def test_a_token_opens_a_tunnel(token, server):
    with RawLogin(backend(server), token) as peer:
        reply = peer.prove()["control"]
        peer.login.verify(reply["auth"])
        assert reply["host"].startswith("demo.")
        assert server.registry.find("demo").owner.id == f"token:{token.id}"


def test_a_client_without_a_name_gets_one_that_its_token_covers(directory, server):
    token = new_token(directory, names=("ann-*",))
    with running_client(frontend(server), 9, token=token) as client:
        name = client.wait_for(TunnelOpened).name
        assert re.fullmatch(r"ann-[a-z]+(-[a-z]+){2,}", name)
        assert server.registry.find(name).owner.id == f"token:{token.id}"
    assert client.seen(TunnelLost) == []


def test_a_name_that_was_chosen_is_not_given_up_for_another(directory, server):
    token = new_token(directory, names=("ann-*",))
    with running_client(frontend(server), 9, token=token, name="bob", opened=False) as client:
        assert isinstance(client.ended(), NotAllowed)


def test_a_token_for_no_name_that_can_be_made_up_ends_the_client_with_what_it_covers(directory, server):
    token = new_token(directory, names=("*.example.org",))
    with running_client(frontend(server), 9, token=token, opened=False) as client:
        error = client.ended()
    assert isinstance(error, NotAllowed)
    assert "only *.example.org." in str(error)


def test_one_name_after_the_other_that_a_token_covers_is_tried(directory, server):
    token = new_token(directory, names=("one", "two"))
    with (
        running_client(frontend(server), 9, token=token, name="one"),
        running_client(frontend(server), 9, token=token) as second,
    ):
        assert second.wait_for(TunnelOpened).name == "two"


def test_what_a_token_covers_is_told_to_its_holder_alone(directory, server):
    token = new_token(directory, names=("ann-*",), reserved=("shop",))
    with RawLogin(backend(server), token, name="bob") as peer:
        answer = peer.prove()
        assert (answer["error"], answer["names"]) == ("not_allowed", ["ann-*", "shop"])
    with RawLogin(backend(server), wrong(token), name="bob") as peer:
        assert peer.prove().keys() == {"error", "message"}
    with encrypt(connect(backend(server))) as sock:
        sock.sendall(control_request("bob"))
        assert read_message(sock).keys() == {"error", "message"}


def test_a_token_for_many_names_tells_as_many_as_a_message_may_have(directory, server):
    token = new_token(directory, names=tuple(f"name-{number}" for number in range(100)))
    with running_client(frontend(server), 9, token=token) as client:
        assert client.wait_for(TunnelOpened).name == "name-0"


def test_a_client_with_a_token_opens_a_tunnel(token, server):
    with running_client(frontend(server), 9, token=token, name="demo"):
        assert server.registry.find("demo").owner.id == f"token:{token.id}"


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
def test_nobody_is_admitted_without_a_token(token, server, secure):
    sock = connect(backend(server))
    with encrypt(sock) if secure else sock as sock:
        sock.sendall(control_request("demo"))
        answer = read_message(sock)
    assert answer["error"] == "auth_required"
    assert "lt-client login" in answer["message"]


def test_nobody_is_admitted_at_0_2_either(token, server):
    request = frame({"control": {"name": "demo", "client": "me"}})
    assert ask(backend(server), HEADER_0_2 + request)["error"] == "auth_required"


def test_old_clients_are_admitted_beside_tokens_where_the_owner_says_so(token, directory):
    with running_server(data_dir=str(directory), timeouts=QUICK, legacy=True) as server:
        with RawClient(backend(server), "demo") as old:
            assert "control" in old.reply
        assert ask(backend(server), control_request("demo"))["error"] == "auth_required"


def test_a_client_without_a_token_ends_with_the_reason(token, server):
    with running_client(frontend(server), 9, opened=False) as client:
        assert isinstance(client.ended(), AuthRequired)
        assert not client.seen(TunnelLost)


@pytest.mark.parametrize("spoil", [unknown, wrong])
def test_an_unknown_id_and_a_wrong_secret_are_told_the_same(token, server, spoil):
    with RawLogin(backend(server), spoil(token)) as peer:
        assert set(peer.challenge) == {"challenge"}
        assert peer.prove() == {"error": "auth_failed", "message": REFUSED}
    assert len(server.registry) == 0


def test_an_unknown_id_gets_the_same_salt_each_time(token, server):
    challenges = []
    for one in (unknown(token), unknown(token), token, token):
        with RawLogin(backend(server), one) as peer:
            challenges.append(peer.challenge["challenge"].split(",")[1:])
    assert challenges[0] == challenges[1] != challenges[2] == challenges[3]


def test_a_client_with_a_wrong_token_ends_with_the_reason(token, server):
    with running_client(frontend(server), 9, opened=False, token=wrong(token)) as client:
        assert isinstance(client.ended(), AuthFailed)


def test_a_client_that_lost_its_connection_logs_in_again(token, server):
    """On a TLS session that is resumed, which is bound to the same certificate."""
    with (
        Link(backend(server)) as link,
        running_client(frontend(server), 9, token=token, name="demo", backend=link.port) as client,
    ):
        wait_until(lambda: link.lines)
        for line in link.lines:
            line.cut(reset=True)
        assert client.wait_for(TunnelOpened, 2).resumed
        assert server.registry.find("demo").owner.id == f"token:{token.id}"


def test_a_token_of_another_server_is_not_even_tried(token, server):
    other = Token(token.id, token.secret, "SHA256:" + "A" * 43)
    with running_client(frontend(server), 9, opened=False, token=other) as client:
        assert isinstance(client.ended(), KeyChanged)


def test_a_proof_is_of_use_once(token, server):
    with RawLogin(backend(server), token) as peer, RawLogin(backend(server), token) as again:
        proof = peer.proof()
        assert "control" in peer.prove(proof)
        assert peer.challenge != again.challenge
        assert again.prove(proof)["error"] == "auth_failed"


def test_a_proof_for_another_certificate_is_refused(token, server):
    """What a man in the middle gets out of a client covers his certificate; relayed, it proves nothing."""
    with RawLogin(backend(server), token, binding=b"his certificate") as relayed:
        assert relayed.prove()["error"] == "auth_failed"


def test_a_token_is_never_taken_without_encryption(token, server):
    login = ClientLogin(token.id, token.secret, "n" * 24, b"")
    answer = ask(backend(server), control_request("demo", auth=login.first))
    assert answer["error"] == "tls_required"


@pytest.mark.parametrize("auth", ["n,,n=aaaaaaaa,r=nnnnnnnnnnnnnnnnnnnnnnnn", "nonsense"])
def test_a_beginning_that_is_none_is_an_invalid_request(token, server, auth):
    with RawLogin(backend(server), token, auth=auth) as peer:
        assert peer.challenge["error"] == "invalid_request"


@pytest.mark.parametrize("message", [{"proof": "nonsense"}, {"control": "ping"}, {"release": True}])
def test_a_proof_that_is_none_is_an_invalid_request(token, server, message):
    with RawLogin(backend(server), token) as peer:
        peer.sock.sendall(frame(message))
        assert read_message(peer.sock)["error"] == "invalid_request"


def test_a_proof_that_does_not_come_is_not_waited_for_long(token, directory):
    """No other test has so little time: on a busy machine a handshake alone may take longer."""
    timeouts = {**QUICK, "preamble": 0.5}
    with (
        running_server(data_dir=str(directory), timeouts=timeouts) as server,
        RawLogin(backend(server), token) as peer,
    ):
        began = time.monotonic()
        assert read_message(peer.sock)["error"] == "exception"
        assert time.monotonic() - began < 0.5 + 2


def test_an_open_server_takes_no_token(server):
    with RawLogin(backend(server), Token("aaaaaaaa", "a" * 26, fingerprint())) as peer:
        assert peer.prove()["error"] == "auth_failed"


def test_two_proofs_are_one_too_many(token, server):
    with RawLogin(backend(server), token) as peer:
        proof = peer.proof()
        assert "control" in peer.prove(proof)
        while (answer := peer.prove(proof)) and "error" not in answer:
            continue
        assert answer["error"] == "exception"


@pytest.mark.parametrize(
    ("allowed", "asked", "code"),
    [
        ({"names": ("ann-*",)}, {"name": "bob-1"}, "not_allowed"),
        ({"names": ("ann-*",)}, {"name": "ann"}, "not_allowed"),
        ({"names": ("ann-*",)}, {"name": "ANN-1"}, None),
        ({"names": ("ann-*",), "reserved": ("demo",)}, {"name": "demo"}, None),
        ({"names": ("demo",)}, {"name": "demo", "domain": "www.example.org"}, "not_allowed"),
        ({"names": ("demo", "*.example.org")}, {"name": "demo", "domain": "www.example.org"}, None),
        ({"kinds": ("http",)}, {"name": "demo", "kind": "tcp"}, "not_allowed"),
        ({"kinds": ("tcp",)}, {"name": "demo"}, "not_allowed"),
        ({"expires": 1.0}, {"name": "demo"}, "token_expired"),
    ],
)
def test_what_a_token_covers(directory, server, allowed, asked, code):
    token = new_token(directory, **allowed)
    with RawLogin(backend(server), token, **asked) as peer:
        answer = peer.prove()
        assert answer.get("error") == code, answer
        assert ("control" in answer) is (code is None)


def test_a_name_that_is_reserved_for_another_token_is_taken(directory, server):
    one, other = new_token(directory, reserved=("demo",)), new_token(directory)
    with RawLogin(backend(server), other) as peer:
        assert peer.prove()["error"] == "unavailable"
    with RawLogin(backend(server), one) as peer:
        assert "control" in peer.prove()


def test_as_many_tunnels_as_the_token_has(directory, server):
    token = new_token(directory, max_tunnels=2)
    with RawLogin(backend(server), token, "one") as one, RawLogin(backend(server), token, "two") as two:
        assert "control" in one.prove()
        assert "control" in two.prove()
        with RawLogin(backend(server), token, "three") as three:
            assert three.prove()["error"] == "limit_reached"


def test_a_token_that_was_made_a_moment_ago_works_and_one_taken_back_does_not(directory, monkeypatch):
    monkeypatch.setattr(app, "TICK", 3600.0)
    with running_server(data_dir=str(directory), timeouts=QUICK) as server:
        token = new_token(directory)
        with RawLogin(backend(server), token) as peer:
            assert "control" in peer.prove()
        change_token(directory, token)
        with RawLogin(backend(server), token) as peer:
            assert peer.prove()["error"] == "auth_failed"


# Tokens that change while the server runs.


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({}, AuthFailed),
        ({"expires": 1.0}, TokenExpired),
        ({"names": ("other",)}, NotAllowed),
        ({"kinds": ("tcp",)}, NotAllowed),
    ],
)
def test_what_a_token_covers_no_more_ends_and_does_not_come_back(token, directory, server, change, error):
    with running_client(frontend(server), 9, token=token, name="demo") as client:
        change_token(directory, token, **change)
        assert type(client.ended()) is error
        assert not client.seen(TunnelLost)
        wait_until(lambda: len(server.registry) == 0, what="the name is free")


def test_visitors_of_a_tunnel_that_is_revoked_are_cut_even_if_its_client_holds_on(directory, server):
    with Peer(backend(server)) as peer, connect(frontend(server)) as visitor:
        (proxy,) = park(server, peer)
        visitor.sendall(request("demo.localhost"))
        number = read_message(proxy)["proxy"]["id"]
        proxy.sendall(got(number) + ready(number) + b"HTTP/1.1 200 OK\r\n\r\nfor a long time")
        assert visitor.recv(1)
        new_token(directory)
        assert is_reset(visitor)


def test_tunnels_beyond_a_limit_that_was_lowered_end_the_newest_first(token, directory, server):
    with running_client(frontend(server), 9, token=token, name="one") as one:
        with running_client(frontend(server), 9, token=token, name="two") as two:
            change_token(directory, token, max_tunnels=1)
            assert isinstance(two.ended(), NotAllowed)
        assert not one.greenlet.dead


def test_a_change_that_takes_nothing_away_ends_nothing(token, directory, server):
    with running_client(frontend(server), 9, token=token, name="demo") as client:
        other = new_token(directory)
        with running_client(frontend(server), 9, token=other, name="other") as second:
            change_token(directory, token, label="renamed")
            change_token(directory, other)
            assert isinstance(second.ended(), AuthFailed)
        assert server.tokens.find(token.id).label == "renamed"
        assert not client.greenlet.dead


def test_the_first_token_closes_an_open_server_to_those_who_have_none(directory, server):
    with RawClient(backend(server), "old") as old, Peer(backend(server), "new") as new:
        assert "control" in old.reply
        new_token(directory)
        wait_until(lambda: new.said("error"))
        assert new.said("error") == ["auth_required"]
        while "error" not in (message := read_message(old.control)):
            assert message == {"control": "ping"}
        assert message["error"] == "auth_required"


def test_a_token_that_expires_ends_its_tunnel_at_that_time(directory, server):
    token = new_token(directory, expires=time.time() + 1.0)
    with running_client(frontend(server), 9, token=token, name="demo") as client:
        assert isinstance(client.ended(), TokenExpired)


# Failures.


def test_an_address_that_fails_is_slowed_down(token, server, monkeypatch):
    for _ in range(FREE_FAILURES):
        with RawLogin(backend(server), wrong(token)) as peer:
            assert peer.prove()["error"] == "auth_failed"
    with RawLogin(backend(server), token) as peer:
        assert peer.challenge["error"] == "auth_throttled"
    monkeypatch.setattr(auth, "FREE_FAILURES", FREE_FAILURES + 1)
    with RawLogin(backend(server), token) as peer:
        assert "control" in peer.prove()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def failures(clock):
    return Failures(clock)


def is_throttled(failures, address):
    try:
        failures.check(address)
    except AuthThrottled:
        return True
    return False


def test_failures_are_forgiven_one_by_one(failures, clock):
    for _ in range(FREE_FAILURES):
        assert not is_throttled(failures, "192.0.2.1")
        failures.add("192.0.2.1")
    assert is_throttled(failures, "192.0.2.1")
    assert not is_throttled(failures, "192.0.2.2")
    clock.now += FAILURE_INTERVAL
    assert not is_throttled(failures, "192.0.2.1")
    failures.add("192.0.2.1")
    assert is_throttled(failures, "192.0.2.1")


def test_the_worst_that_is_held_against_an_address_has_an_end(failures, clock):
    for _ in range(1000):
        failures.add("192.0.2.1")
    clock.now += (WORST_DEBT - FREE_FAILURES + 1) * FAILURE_INTERVAL
    assert not is_throttled(failures, "192.0.2.1")


def test_an_ipv6_network_is_one_address(failures):
    for number in range(FREE_FAILURES):
        failures.add(f"2001:db8::{number:x}")
    assert is_throttled(failures, "2001:db8::ffff")
    assert not is_throttled(failures, "2001:db8:0:1::1")


def test_the_number_of_addresses_is_bounded(failures):
    for number in range(MAX_ADDRESSES + 10):
        failures.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(failures._forgiven_at) == MAX_ADDRESSES
