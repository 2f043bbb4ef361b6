"""localtunnel.client.trust.identity: who this client is."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from localtunnel.client.trust.identity import KEY_FILE, new_instance, owner_key, user_at_host
from localtunnel.errors import ConfigError
from localtunnel.protocol import limits


def test_a_client_is_user_host_and_system():
    assert re.fullmatch(r"[^;@]+@[^;]+;[A-Za-z]+", user_at_host())
    assert user_at_host() == user_at_host()


def test_every_run_of_a_client_is_an_instance_of_its_own():
    instances = {new_instance() for _ in range(100)}
    assert len(instances) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", instance) for instance in instances)


def test_a_client_without_a_user_still_is_one(monkeypatch):
    def fail():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("localtunnel.client.trust.identity.getpass.getuser", fail)
    assert user_at_host().startswith("unknown@")


def test_a_long_host_name_leaves_room_for_the_instance(monkeypatch):
    monkeypatch.setattr("localtunnel.client.trust.identity.platform.node", lambda: "h" * 500)
    text = f"{user_at_host()};{new_instance()}"
    assert len(text) <= limits.MAX_CLIENT_ID
    assert re.search(r";[0-9a-f]{16}\Z", text)


def test_what_no_log_could_show_is_replaced(monkeypatch):
    monkeypatch.setattr("localtunnel.client.trust.identity.platform.node", lambda: "ho\x1b[31mst\n")
    assert "@ho?[31mst?;" in user_at_host()


def test_the_key_is_made_once_and_is_for_its_owner_s_eyes(tmp_path):
    directory = tmp_path / "data"
    key = owner_key(directory, "example.com")
    assert re.fullmatch(r"[0-9a-f]{64}", key)
    assert owner_key(directory, "example.com") == key
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / KEY_FILE).stat().st_mode) == 0o600
    assert key not in (directory / KEY_FILE).read_text()


def test_each_server_gets_another_key_and_no_machine_has_the_same(tmp_path):
    keys = {owner_key(tmp_path / "one", server) for server in ("example.com", "example.org", "example.com:8000")}
    assert len(keys) == 3
    assert owner_key(tmp_path / "two", "example.com") not in keys
    assert owner_key(tmp_path / "one", "Example.COM:80") in keys


def test_clients_that_start_together_have_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: owner_key(tmp_path, "example.com"), range(32)))) == 1


def test_a_key_that_others_may_read_is_not_used(tmp_path):
    owner_key(tmp_path, "example.com")
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        owner_key(tmp_path, "example.com")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 64, b"a" * 63, b"a" * 65])
def test_a_damaged_key_is_not_replaced_behind_its_owner_s_back(tmp_path, content):
    owner_key(tmp_path, "example.com")
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        owner_key(tmp_path, "example.com")
    assert (tmp_path / KEY_FILE).read_bytes() == content
