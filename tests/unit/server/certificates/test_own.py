"""localtunnel.server.certificates.own: a key of the server's own, made once, and files that are followed."""

import logging
import os
import ssl
import stat
import subprocess
import sys

import pytest
import trustme
from harness import ROOT, backend, running_server, wait_until
from harness.tls import careless_context, tls_connect, write_certificate
from harness.v3 import Peer

from localtunnel.errors import ConfigError
from localtunnel.net.tls import context as tls
from localtunnel.net.tls import keys
from localtunnel.server import app
from localtunnel.server.certificates.own import OWN_FILE, Certificate, fingerprint
from localtunnel.server.config import ServerConfig

pytestmark = pytest.mark.usefixtures("no_leaks")


def config(tmp_path, **settings):
    return ServerConfig(data_dir=str(tmp_path / "data"), **settings)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def shown(server):
    """Return the fingerprint of the key that a client is shown."""
    with tls_connect(backend(server)) as sock:
        return keys.fingerprint(sock.getpeercert(True))


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    first = fingerprint(config(tmp_path))
    path = tmp_path / "data" / OWN_FILE
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    made = path.read_bytes()
    assert fingerprint(config(tmp_path)) == first
    assert path.read_bytes() == made
    assert fingerprint(ServerConfig(data_dir=str(tmp_path / "other"))) != first


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        fingerprint(config(tmp_path))
    finally:
        os.umask(before)
    assert (mode(tmp_path / "data"), mode(tmp_path / "data" / OWN_FILE)) == (0o700, 0o600)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path, bits):
    fingerprint(config(tmp_path))
    (tmp_path / "data" / OWN_FILE).chmod(bits)
    with pytest.raises(ConfigError, match="chmod 600"):
        fingerprint(config(tmp_path))


def test_the_fingerprint_of_files_is_that_of_their_first_certificate(tmp_path):
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, "localhost")
    found = fingerprint(config(tmp_path, tls_certificate=str(path)))
    assert found == tls.server_context(path, path).fingerprint
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "settings", [{"tls_certificate": "nowhere.pem"}, {"tls_certificate": "nowhere.pem", "tls_key": "nokey.pem"}]
)
def test_files_that_are_not_there_keep_the_server_from_starting(settings):
    with pytest.raises(ConfigError, match=r"nowhere\.pem"), running_server(**settings):
        pass


def test_a_key_alone_is_no_certificate(tmp_path):
    with pytest.raises(ConfigError, match="tls_certificate"):
        Certificate(config(tmp_path, tls_key="key.pem"))


def test_a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "TICK", 0.05)
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, "localhost")
    with running_server(tls_certificate=str(path)) as server, Peer(backend(server), connect=tls_connect) as peer:
        first = shown(server)
        write_certificate(authority, tmp_path, "localhost")
        wait_until(lambda: shown(server) != first, what="the new certificate is shown")
        assert "control" in peer.reply
        assert not peer.ended()


def test_a_session_from_before_a_new_certificate_is_not_resumed(tmp_path, monkeypatch):
    """Its client would take the certificate of then for the one that a login is bound to."""
    monkeypatch.setattr(app, "TICK", 0.05)
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, "localhost")
    context = careless_context()
    # The session is known as soon as hands have been shaken, unlike in TLS 1.3.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running_server(tls_certificate=str(path)) as server:
        with tls_connect(backend(server), context) as sock:
            first, session = keys.fingerprint(sock.getpeercert(True)), sock.session
        with tls_connect(backend(server), context, session) as sock:
            assert sock.session_reused
        write_certificate(authority, tmp_path, "localhost")
        wait_until(lambda: shown(server) != first, what="the new certificate is shown")
        with tls_connect(backend(server), context, session) as sock:
            assert not sock.session_reused


def test_a_certificate_and_its_key_are_replaced_one_after_the_other(tmp_path, monkeypatch, caplog):
    """In between they do not belong together: the old ones stay, and the log says so once."""
    monkeypatch.setattr(app, "TICK", 0.05)
    authority = trustme.CA()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def issue():
        return authority.issue_cert("localhost")

    one, two = issue(), issue()
    one.cert_chain_pems[0].write_to_path(str(chain))
    one.private_key_pem.write_to_path(str(key))
    with running_server(tls_certificate=str(chain), tls_key=str(key)) as server:
        first = shown(server)
        with caplog.at_level(logging.INFO, "localtunnel.server"):
            two.cert_chain_pems[0].write_to_path(str(chain))
            wait_until(lambda: "certificate not loaded, the old one stays" in caplog.messages, what="the complaint")
            assert shown(server) == first
            two.private_key_pem.write_to_path(str(key))
            wait_until(lambda: "certificate loaded" in caplog.messages, what="the new certificate is loaded")
        assert shown(server) != first
        assert caplog.messages.count("certificate not loaded, the old one stays") == 1


@pytest.mark.parametrize("breaks", [lambda path: path.write_bytes(b"half a fi"), lambda path: path.unlink()])
def test_a_file_that_breaks_changes_nothing(tmp_path, monkeypatch, caplog, breaks):
    monkeypatch.setattr(app, "TICK", 0.05)
    path = write_certificate(trustme.CA(), tmp_path, "localhost")
    whole = path.read_bytes()
    with running_server(tls_certificate=str(path)) as server:
        first = shown(server)
        breaks(path)
        wait_until(lambda: "certificate not loaded, the old one stays" in caplog.messages, what="the complaint")
        assert shown(server) == first
        path.write_bytes(whole)
        assert shown(server) == first


def test_those_that_start_at_once_have_one_key(tmp_path):
    """The second waits for the first, and does not put a key of its own in the place of the other."""
    program = "import sys; from localtunnel.cli.server import main; sys.exit(main(sys.argv[1:]))"
    settings = tmp_path / "server.toml"
    settings.write_text(f"data_dir = '{tmp_path / 'data'}'\n")
    command = [sys.executable, "-c", program, "fingerprint", f"--config={settings}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(4)]
    printed = {process.communicate(timeout=30)[0].decode().strip() for process in started}
    assert printed == {fingerprint(config(tmp_path))}


def test_the_channel_binding_of_a_server_is_that_of_the_certificate_it_shows(tmp_path):
    path = write_certificate(trustme.CA(), tmp_path, "localhost")
    with running_server(tls_certificate=str(path)) as server, tls_connect(backend(server)) as sock:
        assert server._certificate.context.binding == keys.end_point(sock.getpeercert(True))
