"""localtunnel.net.tls.connect: dialling a server, with a handshake that verifies it."""

import gevent
import pytest
import trustme
from harness import CAP, at_most, listening, unused_port
from harness.tls import TlsListening, authority_of_this_machine, write_certificate

from localtunnel.errors import CertificateUnknown, CertificateUntrusted, ConnectionRefused, DeadlineExceeded
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import resolve
from localtunnel.net.tls.connect import connect
from localtunnel.net.tls.context import client_context

pytestmark = pytest.mark.usefixtures("no_leaks")


def secure_dial(port, *, roots=False, host="localhost", seconds=CAP):
    addresses = resolve(["127.0.0.1"], port, Deadline(CAP))
    return connect(addresses, Deadline(seconds), client_context(roots=roots), host)


def test_a_server_is_verified_by_the_authorities_and_for_its_name(tmp_path, monkeypatch):
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, "localhost", "127.0.0.1")
    with TlsListening(path) as server, authority_of_this_machine(authority, tmp_path, monkeypatch):
        for host in ("localhost", "127.0.0.1"):
            sock, address = secure_dial(server.port, roots=True, host=host)
            assert address.sockaddr == ("127.0.0.1", server.port)
            sock.close()
        with pytest.raises(CertificateUntrusted, match="ostname mismatch") as caught:
            secure_dial(server.port, roots=True, host="other.example.com")
        assert not isinstance(caught.value, CertificateUnknown)


def test_an_authority_that_nobody_knows_is_told_apart(tmp_path):
    path = write_certificate(trustme.CA(), tmp_path, "localhost")
    with TlsListening(path) as server:
        with pytest.raises(CertificateUnknown, match="cannot be trusted"):
            secure_dial(server.port, roots=True)
        sock, _ = secure_dial(server.port, roots=False)
        sock.close()


def test_a_server_that_is_not_there_and_one_that_says_nothing():
    with pytest.raises(ConnectionRefused):
        secure_dial(unused_port())
    with listening() as silent, pytest.raises(DeadlineExceeded), at_most(2.0):
        secure_dial(silent.getsockname()[1], seconds=0.2)


def test_an_attempt_can_be_killed_in_the_handshake():
    with listening() as silent:
        dialling = gevent.spawn(secure_dial, silent.getsockname()[1])
        sock, _ = silent.accept()
        with sock:
            sock.settimeout(CAP)
            sock.recv(1)
            dialling.kill()
            while sock.recv(65536):
                pass
