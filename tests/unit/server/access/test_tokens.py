"""localtunnel.server.access.tokens: the file, its editors, and the running server's view of it."""

import json
import stat
from contextlib import nullcontext

import pytest

from localtunnel.errors import AuthFailed, ConfigError, NotAllowed, TokenExpired
from localtunnel.protocol.login import scram
from localtunnel.protocol.login.token import parse
from localtunnel.server.access import tokens
from localtunnel.server.access.tokens import FILE, TokenStore

FINGERPRINT = "SHA256:" + "A" * 43


@pytest.fixture
def store(tmp_path):
    return TokenStore(tmp_path, clock=lambda: 1000.0)


def create(directory, **allowed):
    return tokens.create(directory, FINGERPRINT, **allowed)


def test_a_token_is_kept_without_what_logs_in(tmp_path):
    token, record = create(tmp_path, label="ann")
    text = (tmp_path / FILE).read_text()
    assert token.secret not in text
    assert parse(token.text()) == token
    assert record.credentials == scram.credentials(token.secret, record.credentials.salt)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_tokens_are_all_different(tmp_path):
    made = [create(tmp_path) for _ in range(20)]
    for part in ("id", "secret"):
        assert len({getattr(token, part) for token, _ in made}) == len(made)
    assert len({record.credentials.salt for _, record in made}) == len(made)


def test_an_edit_that_fails_changes_nothing(tmp_path):
    token, _ = create(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(KeyError), tokens.edit(tmp_path) as records:
        del records[token.id]
        raise KeyError
    assert (tmp_path / FILE).read_bytes() == before


def test_a_name_is_reserved_once(tmp_path):
    create(tmp_path, reserved=("demo", "shop"))
    with pytest.raises(ConfigError, match="'demo' is already reserved"):
        create(tmp_path, reserved=("demo",))
    assert len(tokens.read(tmp_path)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"decoy_key": 1}', b"\xff", b'{"decoy_key":"AA==","tokens":[{}]}']
)
def test_a_damaged_file_stops_a_server_and_a_command_that_start(tmp_path, store, content):
    path = tmp_path / FILE
    path.touch(0o600)
    path.write_bytes(content)
    for read in (store.load, lambda: tokens.read(tmp_path), lambda: create(tmp_path)):
        with pytest.raises(ConfigError, match="damaged"):
            read()
    assert path.read_bytes() == content


def test_without_a_file_a_server_is_open(tmp_path, store):
    store.load()
    assert not store.exist()
    create(tmp_path)
    assert store.refresh()
    assert store.exist()


def test_a_server_that_had_tokens_is_never_open_again(tmp_path, store):
    token, _ = create(tmp_path)
    store.load()
    with tokens.edit(tmp_path) as records:
        records.clear()
    assert store.refresh()
    assert store.exist()
    assert store.find(token.id) is None


@pytest.mark.parametrize("harm", ["gone", "damaged", "shown to others"])
def test_what_becomes_of_the_file_leaves_the_last_tokens_in_force(tmp_path, store, harm, caplog):
    token, _ = create(tmp_path)
    store.load()
    path = tmp_path / FILE
    if harm == "gone":
        path.unlink()
    elif harm == "damaged":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.chmod(0o644)
    assert not store.refresh()
    assert store.current(token.id)
    assert "stay in force" in caplog.text
    caplog.clear()
    assert not store.refresh()
    assert not caplog.text


def test_refreshing_reads_a_file_that_has_not_changed_once(tmp_path, store, monkeypatch):
    create(tmp_path)
    store.load()
    monkeypatch.setattr(tokens.files, "read", lambda path: pytest.fail("the file was read"))
    assert not store.refresh()


def test_what_is_in_force(tmp_path, store):
    good, _ = create(tmp_path, expires=1000.5)
    late, _ = create(tmp_path, expires=1000.0)
    store.load()
    assert store.current(good.id).id == good.id
    with pytest.raises(TokenExpired):
        store.current(late.id)
    with pytest.raises(AuthFailed):
        store.current("aaaaaaaa")


def test_what_a_proof_is_held_against(tmp_path, store):
    _, record = create(tmp_path)
    create(tmp_path)
    store.load()
    nobody = store.credentials("aaaaaaaa")
    assert store.credentials(record.id) == record.credentials
    assert nobody == store.credentials("aaaaaaaa") != store.credentials("bbbbbbbb")
    again = TokenStore(tmp_path)
    again.load()
    assert again.credentials("aaaaaaaa") == nobody, "a restart of the server must not tell which ids there are"


def test_reserved_names(tmp_path, store):
    token, _ = create(tmp_path, reserved=("demo",))
    store.load()
    assert store.reserved_for("DEMO") == token.id
    assert store.reserved_for("other") is None


@pytest.mark.parametrize(
    ("names", "name", "covered"),
    [
        (("*",), "anything", True),
        (("demo",), "demo", True),
        (("demo",), "demo2", False),
        (("demo",), "xdemo", False),
        (("ann-*",), "ann-", True),
        (("ann-?",), "ann-12", False),
        (("ann-[0-9]",), "ann-1", True),
        ((), "demo", False),
        (("*.example.org",), "example.org", False),
    ],
)
def test_globs(tmp_path, names, name, covered):
    _, record = create(tmp_path, names=names)
    with nullcontext() if covered else pytest.raises(NotAllowed, match=repr(name)):
        record.check_allows(name, "http")


@pytest.mark.parametrize(
    ("name", "host", "taken", "option"),
    [("demo", None, "demo", "--name"), ("ann-1", "www.example.org", "www.example.org", "--domain")],
)
def test_who_asks_for_too_much_is_told_what_to_ask_for(tmp_path, name, host, taken, option):
    _, record = create(tmp_path, names=("ann-*",))
    with pytest.raises(NotAllowed) as caught:
        record.check_allows(name, "http", host)
    assert str(caught.value) == (
        f"This token does not cover the name {taken!r}, only ann-*. Choose a name that it covers, with {option}."
    )
    assert caught.value.names == (("ann-*",) if option == "--name" else ())


def test_the_file_can_be_read_by_people(tmp_path):
    token, _ = create(tmp_path, label="ann's laptop", names=("ann-*",))
    (record,) = json.loads((tmp_path / FILE).read_text())["tokens"]
    assert (record["id"], record["label"], record["names"]) == (token.id, "ann's laptop", ["ann-*"])
