"""Tokens with the real programs: who is let in, with which exit code everybody else ends, and what a victim notices."""

import os
import subprocess
import sys
import time

import gevent
import pytest
from harness import (
    ROOT,
    ClientProcess,
    ServerProcess,
    answer_hello,
    fetch,
    request,
    running_upstream,
    wait_until,
)
from harness.state import put_server_key

from localtunnel.protocol.login.token import Token, parse

pytestmark = pytest.mark.slow


class Site:
    """A server that asks for tokens, and its owner at a shell."""

    def __init__(self, directory) -> None:
        put_server_key(directory / "localtunnel")
        self.env = {"XDG_DATA_HOME": str(directory)}
        self.victim = self.token("create", "--label=victim", "--reserve=shop")
        self.server = ServerProcess(env=self.env)

    def token(self, *argv):
        """Run ``lt-server token`` and return the token that it printed, or its output."""
        command = [sys.executable, str(ROOT / "bin" / "lt-server"), "token", *argv]
        env = {**os.environ, **self.env}
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, check=True)
        return parse(done.stdout) if argv[0] == "create" else done.stdout

    def client(self, target, token, *arguments, name):
        """Start a client with ``token``, or without one."""
        env = {} if token is None else {"LT_TOKEN": token.text()}
        return ClientProcess(target, *arguments, server=self.server.frontend, name=name, env=env)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("data"))
    with site.server:
        yield site


def end_of(client):
    """Return the exit code and the error's code of a client that gives up by itself."""
    code = client.wait()
    return code, [event for event in client.events if event["event"] == "failed"][-1]["code"]


def another_secret(token):
    return Token(token.id, "a" * 26, token.fingerprint)


def test_everybody_else_is_refused_while_the_victim_loses_no_request(site):
    others = site.token("create", "--name=other-*")
    expired = site.token("create", "--expires=1s")
    over = time.time() + 1.0
    revoked = site.token("create")
    site.token("revoke", revoked.id)
    gone = site.token("create", "--kind=tcp")
    attempts = [
        (None, "shop", (4, "auth_required")),
        (None, "free", (4, "auth_required")),
        (another_secret(site.victim), "shop", (4, "auth_failed")),
        (revoked, "free", (4, "auth_failed")),
        (expired, "free", (4, "token_expired")),
        (others, "shop", (5, "not_allowed")),
        (gone, "free", (5, "not_allowed")),
        (site.token("create"), "shop", (5, "unavailable")),
    ]
    with running_upstream(answer_hello) as upstream, site.client(upstream, site.victim, name="shop") as victim:
        victim.wait_until_open()
        asking = Asking(site.server.frontend)
        wait_until(lambda: time.time() > over, what="the token has expired")
        clients = [(site.client(9, token, name=name), expected) for token, name, expected in attempts]
        try:
            for client, expected in clients:
                assert end_of(client) == expected, client.stderr
        finally:
            for client, _ in clients:
                client.close()
        assert asking.end() > len(attempts)
        assert victim.process.poll() is None
        assert len([event for event in victim.events if event["event"] == "tunnel_opened"]) == 1


class Asking:
    """Visitors one after the other, each of which has to be answered."""

    def __init__(self, frontend) -> None:
        self._frontend = frontend
        self._going = True
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        count = 0
        while self._going:
            assert fetch(self._frontend, request("shop.localhost", fields="Connection: close\r\n")).body == b"hello"
            count += 1
            gevent.sleep(0.02)
        return count

    def end(self):
        """Return how many were answered."""
        self._going = False
        return self._greenlet.get()


def test_taking_a_token_back_ends_its_tunnel_within_seconds(site):
    token = site.token("create")
    with site.client(9, token, name="short") as client:
        client.wait_until_open()
        site.token("revoke", token.id)
        assert end_of(client) == (4, "auth_failed")


def test_no_program_writes_a_secret_anywhere(site):
    assert site.victim.secret not in site.server.stderr + site.server.stdout
