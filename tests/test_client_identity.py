"""localtunnel.client.identity: who this client is."""

import re

from localtunnel.client.identity import new_instance, user_at_host
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

    monkeypatch.setattr("localtunnel.client.identity.getpass.getuser", fail)
    assert user_at_host().startswith("unknown@")


def test_a_long_host_name_leaves_room_for_the_instance(monkeypatch):
    monkeypatch.setattr("localtunnel.client.identity.platform.node", lambda: "h" * 500)
    text = f"{user_at_host()};{new_instance()}"
    assert len(text) <= limits.MAX_CLIENT_ID
    assert re.search(r";[0-9a-f]{16}\Z", text)


def test_what_no_log_could_show_is_replaced(monkeypatch):
    monkeypatch.setattr("localtunnel.client.identity.platform.node", lambda: "ho\x1b[31mst\n")
    assert "@ho?[31mst?;" in user_at_host()
