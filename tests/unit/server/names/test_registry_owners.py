"""localtunnel.server.names.registry with a store: names that belong to an owner,
whatever becomes of client and server.
"""

import resource
import sqlite3
import threading
import time

import gevent
import pytest
from harness import CAP, wait_until
from harness.tunnels import make_tunnel

from localtunnel.errors import LimitReached, NameUnavailable, StorageError
from localtunnel.protocol.reserved import Reserved
from localtunnel.server.limits.quotas import Quota
from localtunnel.server.names import leases
from localtunnel.server.names.claims import Wish, owner_of_address, owner_of_key, owner_of_token
from localtunnel.server.names.leases import Leases
from localtunnel.server.names.ports import Ports
from localtunnel.server.names.registry import Policy, Registry
from localtunnel.server.store import FILE, Statement, Store

pytestmark = pytest.mark.usefixtures("no_leaks")

ANN, BOB = owner_of_key("a" * 64), owner_of_key("b" * 64)
ADDRESS = "203.0.113.7"
LONG = 60.0


class Run:
    """One run of a server: a registry that remembers. ``end`` stops it as a server is stopped, ``crash`` does not."""

    def __init__(self, directory, *, lease=LONG, tokens=None, **quotas):
        self.tokens = tokens if tokens is not None else {}
        self.store = Store(directory, (leases.SCHEMA,))
        self.store.open()
        self.tunnels = Quota("tunnels", **quotas.get("tunnels", {}))
        policy = Policy(
            Reserved(),
            self.tunnels,
            Quota("names that are kept", **quotas.get("leases", {})),
            self.tokens.get,
        )
        kept = Leases(self.store)
        self.registry = Registry("tunnels.example", policy, kept, Ports(range(20_000, 20_003), kept))
        self.registry.restore(lease)
        self.restored = self.registry.claims()

    def open(self, name="demo", owner=ANN, instance="one", address=ADDRESS, **fields):
        """Claim a name and open a tunnel under it, as a control connection does; tokens and keys came over TLS."""
        wish = Wish(name, address=address, client="me@here;Linux", encrypted=owner.kept, **fields)
        claim = self.registry.claim(owner, instance, wish)
        claim.tunnel = make_tunnel(claim.name)
        return claim

    def lose(self, claim, seconds=LONG):
        """Lose the client of a tunnel without a word."""
        claim.tunnel.end("control connection closed")
        self.registry.lease(claim, seconds)

    def end(self):
        self.registry.close()
        self.store.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


@pytest.fixture
def run(tmp_path):
    with Run(tmp_path) as made:
        yield made


def test_a_key_is_not_to_be_had_from_the_file(tmp_path):
    with Run(tmp_path) as run:
        session = run.open().session
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"demo" in content
    assert b"a" * 64 not in content
    assert session.encode() not in content
    assert bytes.fromhex(session) not in content


@pytest.mark.parametrize("state", ["open", "lost", "released"])
def test_a_name_is_its_owner_s_after_a_restart_unless_it_was_released(tmp_path, state):
    with Run(tmp_path) as run:
        claim = run.open()
        if state == "lost":
            run.lose(claim)
        elif state == "released":
            run.registry.release(claim)
    with Run(tmp_path) as run:
        if state == "released":
            run.open(owner=BOB)
            return
        assert [claim.name for claim in run.restored] == ["demo"]
        assert run.registry.expects("demo.tunnels.example")
        with pytest.raises(NameUnavailable, match=r"'demo' is in use by another client; choose another one\.$"):
            run.open(owner=BOB)
        assert run.open(instance="two").tunnel is not None


def test_session_and_port_survive_a_restart(tmp_path):
    """The session is for whoever shows it, the port for its owner."""
    with Run(tmp_path) as run:
        claim = run.open(kind="tcp")
        claim.port = 20_000
        run.registry.record(claim)
        session = claim.session
    with Run(tmp_path) as run:
        assert run.registry.find("demo").is_session(session)
        assert not run.registry.find("demo").is_session("0" * 32)
        back = run.open(kind="tcp", resume=session)
        assert (back.session, back.port) == (session, 20_000)
    with Run(tmp_path) as run:
        back = run.open(kind="tcp", resume="0" * 32)
        assert (back.session != session, back.port) == (True, 20_000)


def test_a_lease_that_is_over_is_not_restored(tmp_path):
    with Run(tmp_path) as run:
        run.lose(run.open(), 0.05)
        run.end()
        time.sleep(0.1)
    with Run(tmp_path) as run:
        assert run.restored == []
        run.open(owner=BOB)


def test_who_was_connected_has_the_whole_time_after_a_restart(tmp_path):
    """For how long there was no server is nobody's fault; and no lease has more, whatever the clock says."""
    with Run(tmp_path) as run:
        run.open("connected")
        run.lose(run.open("lost"), 3600.0)
    with Run(tmp_path, lease=0.2) as run:
        assert sorted(claim.name for claim in run.restored) == ["connected", "lost"]
        wait_until(lambda: len(run.registry) == 0, what="the end of both leases")
    with Run(tmp_path) as run:
        assert run.restored == []


def test_a_host_of_its_own_is_kept_as_well(tmp_path):
    with Run(tmp_path) as run:
        run.open(host="www.example.org")
    with Run(tmp_path) as run:
        assert run.registry.expects("www.example.org")
        with pytest.raises(NameUnavailable):
            run.open("other", BOB, host="www.example.org")


def test_those_without_a_key_are_forgotten(tmp_path):
    with Run(tmp_path) as run:
        run.lose(run.open(owner=owner_of_address("me@here;Linux", ADDRESS)))
        assert len(run.registry) == 1
    with Run(tmp_path) as run:
        assert run.restored == []


@pytest.mark.parametrize("instance", ["one", "two"])
def test_a_stranger_with_a_stolen_session_gets_nothing(run, instance):
    """The session moves a name between addresses of one owner, not between owners."""
    mine = run.open()
    for state in ("open", "lost"):
        with pytest.raises(NameUnavailable, match=r"in use by another client; choose another one\.$"):
            run.open(owner=BOB, instance=instance, resume=mine.session, takeover=True)
        assert run.registry.find("demo") is mine
        if state == "open":
            assert mine.tunnel.ended is None
            run.lose(mine)


def test_a_name_that_was_opened_in_the_clear_can_be_taken_along(run):
    """Its session is all that its owner has; from then on the key is."""
    anonymous = owner_of_address("me@here;Linux", ADDRESS)
    old = run.open(owner=anonymous)
    new = run.open(resume=old.session)
    assert old.tunnel.ended == "replaced"
    with pytest.raises(NameUnavailable):
        run.open(owner=anonymous, resume=new.session)


def test_another_machine_of_the_owner_has_to_say_that_it_takes_over(run):
    old = run.open()
    with pytest.raises(NameUnavailable, match="--takeover"):
        run.open(instance="two", address="198.51.100.9")
    assert old.tunnel.ended is None
    new = run.open(instance="two", address="198.51.100.9", takeover=True)
    assert old.tunnel.ended == "replaced"
    assert run.registry.find("demo") is new
    assert new.session != old.session


def test_a_lease_needs_no_takeover(run):
    run.lose(run.open())
    run.open(instance="two", address="198.51.100.9")


def test_two_tokens_are_two_owners(run):
    run.open(owner=owner_of_token("one"))
    with pytest.raises(NameUnavailable):
        run.open(owner=owner_of_token("two"), takeover=True)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"per_owner": 2}, "You have reached your limit of tunnels .2."),
        ({"per_address": 2}, "Your address has reached its limit of tunnels .2."),
        ({"total": 2}, "has reached its limit of tunnels"),
    ],
)
def test_caps_on_tunnels(tmp_path, limits, error):
    with Run(tmp_path, tunnels=limits) as run:
        run.open("one")
        two = run.open("two")
        with pytest.raises(LimitReached, match=error):
            run.open("three")
        assert run.registry.find("three") is None
        # Whoever comes back needs no room besides its own.
        again = run.open("two")
        assert two.tunnel.ended == "replaced"
        run.registry.release(again)
        run.open("three")


def test_a_token_may_have_a_limit_of_its_own(run):
    owner = owner_of_token("one", tunnels=1)
    run.open("one", owner)
    with pytest.raises(LimitReached, match=r"You have reached your limit of tunnels \(1\)"):
        run.open("two", owner)
    run.open("two", owner_of_token("other"))


def test_the_oldest_lease_of_an_owner_yields(tmp_path):
    with Run(tmp_path, leases={"per_owner": 2}) as run:
        stranger = run.open("strangers", BOB)
        run.lose(stranger)
        for name in ("one", "two", "three"):
            run.lose(run.open(name))
        assert [claim.name for claim in run.registry.claims()] == ["strangers", "three", "two"]
    with Run(tmp_path) as run:
        assert sorted(claim.name for claim in run.restored) == ["strangers", "three", "two"]


def test_a_name_that_is_being_written_does_not_yield_to_a_lease(tmp_path, monkeypatch):
    with Run(tmp_path, leases={"per_owner": 1}) as run:
        older, newer = run.open("older"), run.open("newer")
        written = threading.Event()
        commit = Store._commit

        def slow(self, statements):
            written.wait(CAP)
            commit(self, statements)

        monkeypatch.setattr(Store, "_commit", slow)
        opening = gevent.spawn(run.open)
        gevent.sleep(0)
        run.lose(older)
        run.lose(newer)
        written.set()
        assert opening.get().tunnel is not None
        assert [claim.name for claim in run.registry.claims()] == ["demo", "newer"]


@pytest.mark.parametrize("limits", [{"per_address": 1}, {"total": 1}])
def test_a_name_is_not_kept_where_there_is_no_room_and_nobody_else_s_goes_for_it(tmp_path, limits):
    with Run(tmp_path, leases=limits) as run:
        run.lose(run.open("one"))
        run.lose(run.open("two", BOB))
        assert [claim.name for claim in run.registry.claims()] == ["one"]
    with Run(tmp_path) as run:
        assert [claim.name for claim in run.restored] == ["one"]


def test_a_token_keeps_its_name_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("localtunnel.server.names.registry.RESERVED_LOOK", 0.02)
    tokens = {"demo": "mine", "www": "mine"}
    owner = owner_of_token("mine")
    with Run(tmp_path, tokens=tokens) as run:
        assert run.registry.expects("demo.tunnels.example")
        assert not run.registry.expects("other.tunnels.example")
        assert not run.registry.expects("demo")
        claim = run.open(owner=owner)
        run.lose(claim, 0.01)
        later = run.open("later", owner)
        run.lose(later, 0.1)
        wait_until(lambda: run.registry.find("later") is None, what="the end of a lease that is none for ever")
        assert run.registry.find("demo") is claim
        # Also a name that nobody else may have at all.
        run.open("www", owner)
        del tokens["demo"]
        wait_until(lambda: run.registry.find("demo") is None, what="the name is no longer the token's")


def test_a_full_disk_refuses_a_new_name_and_leaves_everybody_else_alone(run, tmp_path):
    mine = run.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / (FILE + "-wal")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(StorageError, match="try again later"):
            for number in range(100):
                run.open(f"new-{number}", BOB)
        refused = [f"new-{number}" for number in range(100) if run.registry.find(f"new-{number}") is None]
        assert refused
        assert mine.tunnel.ended is None
        # Its owner has a row already, which is good enough to come back.
        assert run.open(instance="one").tunnel is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.open(refused[0], BOB)


def test_a_name_that_cannot_be_written_down_frees_the_port_that_it_took_over(run, monkeypatch):
    def fail(self, statements):
        raise sqlite3.OperationalError("disk I/O error")

    guest, other = (run.open(name, owner_of_address(name, ADDRESS), kind="tcp") for name in ("demo", "other"))
    assert run.registry.ports.reserve(guest, 20_000) == 20_000
    monkeypatch.setattr(Store, "_commit", fail)
    with pytest.raises(StorageError):
        run.open("demo", ANN, kind="tcp", resume=guest.session)
    assert run.registry.ports.reserve(other, 20_000) == 20_000


def test_one_client_that_asks_twice_while_the_disk_is_slow(run, monkeypatch):
    commit = Store._commit
    asked = threading.Event()

    def slow(self, statements):
        asked.wait(CAP)
        commit(self, statements)

    def attempt():
        try:
            return run.open()
        except NameUnavailable as error:
            return error

    monkeypatch.setattr(Store, "_commit", slow)
    first, second = gevent.spawn(attempt), gevent.spawn(attempt)
    gevent.sleep(0)
    asked.set()
    gevent.joinall([first, second])
    assert isinstance(first.get(), NameUnavailable)
    assert run.registry.find("demo") is second.get()
    assert len(run.tunnels) == 1


def test_a_name_is_taken_while_it_is_being_written(run, monkeypatch):
    refused = threading.Event()
    monkeypatch.setattr(Store, "_commit", lambda self, statements: refused.wait(CAP))
    first = gevent.spawn(run.open)
    gevent.sleep(0)
    with pytest.raises(NameUnavailable):
        run.open(owner=BOB)
    refused.set()
    assert run.registry.find("demo") is first.get()


def test_what_follows_is_never_without_a_row(tmp_path, run):
    """A crash between the end of one claim and the beginning of the next must not free the name."""
    statements = []
    write, post = run.store.write, run.store.post
    run.store.write = lambda statement: (statements.append(statement), write(statement))
    run.store.post = lambda statement: (statements.append(statement), post(statement))
    run.open()
    run.open()
    run.open(instance="two", takeover=True)
    assert [statement.sql.split()[0] for statement in statements] == ["INSERT", "INSERT", "INSERT"]


def test_kicking_ends_the_tunnel_and_bars_the_name_for_everybody(run):
    mine = run.open(host="www.example.org")
    assert run.registry.bar("DEMO", LONG)
    assert mine.tunnel.ended == "kicked"
    closed = (
        r"^The operator of this server has closed the name '{}' for a minute; try again later, or choose another one\.$"
    )
    for owner, text in ((ANN, closed), (BOB, "'{}' is in use by another client")):
        with pytest.raises(NameUnavailable, match=text.format("demo")):
            run.open(owner=owner, resume=mine.session, takeover=True)
        with pytest.raises(NameUnavailable, match=text.format("www.example.org")):
            run.open("other", owner, host="www.example.org")
    assert not run.registry.bar("demo", LONG)
    assert not run.registry.bar("nobody", LONG)
    run.registry.lease(mine, LONG)
    assert run.registry.find("demo") is not mine
    wait_until(lambda: not run.store.read(Statement("SELECT name FROM leases")), what="the name is forgotten")


def test_a_bar_ends(run):
    run.lose(run.open())
    run.registry.bar("demo", 0.02)
    wait_until(lambda: run.registry.find("demo") is None)
    run.open(owner=BOB)
