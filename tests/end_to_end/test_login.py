"""One server under several addresses: logged in under one, used under another, and never another server with it."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import trustme
from harness import (
    LOOPBACK,
    ROOT,
    ClientProcess,
    ServerProcess,
    answer_hello,
    fetch,
    read_head,
    request,
    running_upstream,
    unused_port,
)
from harness.beside import Nginx, curl, running
from harness.link import Link
from harness.tls import write_certificate

from localtunnel.client.trust.credentials import Credentials
from localtunnel.protocol.login.token import parse

pytestmark = pytest.mark.slow

HOST = "localhost"
"""The host in every address here: a certificate can be for it."""


@pytest.fixture
def upstream():
    with running_upstream(answer_hello) as port:
        yield port


def own_data(directory, name):
    """The environment of a program whose data is in a directory of its own, with a key of its own if it is a server."""
    return {"XDG_DATA_HOME": str(directory / name)}


def token_of(env):
    """Make a token for the server whose data ``env`` names."""
    command = [sys.executable, str(ROOT / "bin" / "lt-server"), "token", "create"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **env}, check=True)
    return parse(done.stdout)


def logged_in(directory, server, token):
    """The environment of a client that has logged in to ``server``."""
    Credentials(directory / "laptop" / "localtunnel").store(server, token)
    return own_data(directory, "laptop")


def test_a_server_is_the_same_under_another_port(tmp_path, upstream):
    """What stands between is a relay in front of the frontend, as a port that a firewall forwards."""
    with ServerProcess(env=own_data(tmp_path, "server")) as server, Link(server.frontend) as other:
        env = logged_in(tmp_path, f"{HOST}:{server.frontend[1]}", token_of(own_data(tmp_path, "server")))
        with ClientProcess(upstream, server=(HOST, other.port), name="demo", env=env) as client:
            client.wait_until_open()
            assert fetch(server.frontend, request("demo.localhost")).body == b"hello"


def test_the_last_login_is_where_a_client_goes(tmp_path, upstream):
    with ServerProcess(env=own_data(tmp_path, "server")) as server:
        address = f"{HOST}:{server.frontend[1]}"
        token = token_of(own_data(tmp_path, "server"))
        env = {**os.environ, **own_data(tmp_path, "laptop"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        command = [sys.executable, str(ROOT / "bin" / "lt-client")]
        subprocess.run([*command, "login", address], input=token.text(), text=True, env=env, timeout=30, check=True)
        with subprocess.Popen(
            [*command, "--name=demo", str(upstream)], env=env, stdout=subprocess.PIPE, text=True
        ) as client:
            try:
                assert client.stdout.readline() == f"http://demo.localhost:{server.frontend[1]}\n"
            finally:
                client.terminate()


def test_another_server_on_the_same_host_gets_no_proof(tmp_path, upstream):
    first, second = own_data(tmp_path, "first"), own_data(tmp_path, "second")
    token_of(second)
    with ServerProcess(env=first) as ours, ServerProcess("--log-level=debug", env=second) as other:
        env = logged_in(tmp_path, f"{HOST}:{ours.frontend[1]}", token_of(first))
        with ClientProcess(upstream, server=(HOST, other.frontend[1]), name="demo", env=env) as client:
            assert client.wait() == 4
            assert "token" in client.stderr
        refused = [record for record in other.records if record["event"] == "client refused"]
        assert [record["error"] for record in refused] == ["auth_required"]
        assert not [record for record in other.records if record["event"] == "login failed"]


def test_a_lie_about_the_backend_brings_the_token_nowhere(tmp_path, upstream):
    """Discovery is in the clear: whoever says that both are one server has to have the key of the token, too."""
    first, second = own_data(tmp_path, "first"), own_data(tmp_path, "second")
    token = token_of(first)
    with ServerProcess(env=second) as liar:

        def lie(sock):
            read_head(sock)
            body = b"%d\n" % liar.backend[1]
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        with running_upstream(lie) as port:
            env = logged_in(tmp_path, f"{HOST}:{port}", token)
            with ClientProcess(upstream, server=(HOST, liar.frontend[1]), name="demo", env=env) as client:
                assert client.wait() == 4
                assert "not the one of your token" in client.stderr
                assert "nothing was sent" in client.stderr
        assert not [record for record in liar.records if record["event"] in ("client refused", "login failed")]


# Behind a proxy that ends TLS, which is the only thing that visitors can reach.

_HAPROXY_CFG = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen proxy
    bind {host}:{port} ssl crt {certificate}
    server tunnel {server[0]}:{server[1]}
"""

_NGINX_TLS = """
    }}
    server {{
        listen {host}:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location / {{
            proxy_pass http://{server[0]}:{server[1]};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
        }}
"""


@contextmanager
def haproxy(directory, **where):
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY_CFG.format(host=LOOPBACK, **where))
    with running(["haproxy", "-db", "-f", str(file)], where["port"], directory / "haproxy.log"):
        yield


@contextmanager
def nginx(directory, **where):
    with Nginx(directory / "nginx", _NGINX_TLS.format(host=LOOPBACK, **where)):
        yield


@pytest.mark.parametrize("proxy", [haproxy, nginx])
def test_a_server_behind_a_tls_proxy_is_named_by_its_url(tmp_path, upstream, proxy):
    authority = trustme.CA()
    certificate = write_certificate(authority, tmp_path, HOST, f"demo.{HOST}")
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))
    port, server_data = unused_port(), own_data(tmp_path, "server")
    public = f"https://{HOST}:{port}"
    token = token_of(server_data)
    with (
        ServerProcess(f"--public-url={public}", env=server_data) as server,
        proxy(tmp_path, port=port, server=server.frontend, certificate=certificate),
    ):
        # The login names the frontend itself, and is good for the URL: both name the same backend.
        laptop = logged_in(tmp_path, f"{HOST}:{server.frontend[1]}", token)
        trusting = {**laptop, "SSL_CERT_FILE": str(tmp_path / "roots.pem")}
        config = f'server = "{public}"\n'
        arguments = {"server": (HOST, 1), "name": "demo", "config": config}
        with UrlClient(upstream, env=trusting, **arguments) as client:
            assert client.wait_until_open() == f"https://demo.{HOST}:{port}"
            resolve = f"--resolve=demo.{HOST}:{port}:{LOOPBACK}"
            page = curl("--cacert", str(tmp_path / "roots.pem"), *resolve.split("=", 1), f"https://demo.{HOST}:{port}/")
            assert (page.returncode, page.stdout) == (0, b"hello"), page.stderr
        with UrlClient(upstream, env=laptop, **arguments) as client:
            assert client.wait() == 4
            assert f"{public}: The server's certificate cannot be trusted" in client.stderr
            assert "SSL_CERT_FILE names a file with others" in client.stderr


class UrlClient(ClientProcess):
    """A client of which the settings file names the server, and no option does."""

    def __init__(self, target, *, server, name, config, env):
        from harness.programs import Program

        Program.__init__(self, "lt-client", [f"--name={name}", "--json", str(target)], config, env)
