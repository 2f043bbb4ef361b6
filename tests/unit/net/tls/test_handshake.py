"""localtunnel.net.tls.context and handshake: handshakes, and sockets that wait as every other one does."""

import hashlib
import socket
import ssl

import gevent
import pytest
from gevent.event import AsyncResult
from harness import CAP, at_most, pair
from harness.state import server_key

from localtunnel.errors import (
    ConfigError,
    ConnectionClosed,
    DeadlineExceeded,
    LocaltunnelError,
    TlsError,
)
from localtunnel.net.deadline import Deadline
from localtunnel.net.tls import context as tls
from localtunnel.net.tls.handshake import shake_hands, wrap

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "tls.pem"
    path.write_bytes(server_key())
    return tls.server_context(path, path)


def handshake(sock, context, seconds=CAP, **settings):
    """Begin a handshake, and return what becomes of it."""
    result = AsyncResult()

    def run():
        try:
            made = wrap(sock, context, **settings)
            shake_hands(made, Deadline(seconds))
        except LocaltunnelError as error:
            result.set_exception(error)
        else:
            result.set(made)

    gevent.spawn(run)
    return result


def connected(own, client=None, **settings):
    """Return both ends of a TLS connection, the server's first."""
    near, far = pair()
    client_sock = socket.socket(fileno=far.detach())
    client_sock.setblocking(False)
    server = handshake(near, own)
    other = handshake(client_sock, client or tls.client_context(roots=False), host="localhost", **settings)
    with at_most(CAP, "the handshake"):
        return server.get(), other.get()


def read(sock, size=65536):
    with at_most(CAP, "bytes over TLS"):
        while True:
            try:
                return sock.recv(size)
            except BlockingIOError:
                gevent.sleep(0.001)


def test_bytes_go_both_ways_and_nothing_to_read_is_a_blocking_io_error(own):
    server, client = connected(own)
    with server, client:
        for sock in (server, client):
            with pytest.raises(BlockingIOError):
                sock.recv(10)
            with pytest.raises(BlockingIOError):
                sock.recv_into(bytearray(10))
        assert client.send(b"hello") == 5
        assert read(server) == b"hello"
        assert server.send(b"you") == 3
        assert read(client) == b"you"


def test_a_socket_without_room_is_a_blocking_io_error_and_the_same_goes_out_later(own):
    server, client = connected(own)
    with server, client:
        piece, sent = bytes(range(256)) * 64, 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += server.send(piece)
        got = bytearray()
        while len(got) < sent:
            got += read(client)
        assert server.send(piece) == len(piece)
        while len(got) < sent + len(piece):
            got += read(client)
        assert got == piece * (len(got) // len(piece))


def test_a_record_leaves_nothing_decrypted_behind(own):
    server, client = connected(own)
    with server, client:
        assert client.send(bytes(16384)) == 16384
        assert len(read(server, 65536)) == 16384
        assert server.pending() == 0


def test_no_version_below_1_2_and_no_suite_without_forward_secrecy(own):
    for context in (own, tls.client_context(roots=True), tls.client_context(roots=False)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        for suite in context.get_ciphers():
            assert suite["protocol"] == "TLSv1.3" or suite["name"].startswith("ECDHE-")
            assert suite["aead"]


def test_both_sides_have_the_same_channel_binding_and_it_is_the_certificates_digest(own):
    server, client = connected(own)
    with server, client:
        assert tls.channel_binding(server) == tls.channel_binding(client)
        assert tls.channel_binding(client) == hashlib.sha256(tls.certificate_of(client)).digest()
    near, far = pair()
    with near, far:
        assert tls.channel_binding(near) is None


def test_one_ticket_resumes_many_connections_and_the_certificate_is_still_known(own):
    context = tls.client_context(roots=False)
    server, client = connected(own, context)
    with server, client:
        assert not client.session_reused
        server.send(b"x")
        assert read(client) == b"x"
        ticket, shown = tls.session_of(client), tls.certificate_of(client)
        binding = tls.channel_binding(client)
    assert ticket.has_ticket
    for _ in range(3):
        server, client = connected(own, context, session=ticket)
        with server, client:
            assert client.session_reused
            assert server.session_reused
            assert tls.certificate_of(client) == shown
            assert tls.channel_binding(client) == tls.channel_binding(server) == binding


def test_a_peer_that_speaks_something_else_ends_the_handshake(own):
    near, far = pair()
    with far:
        result = handshake(near, own)
        far.sendall(b"\x16\x03\x01\x00\x05garbage and more of it")
        with pytest.raises(TlsError, match="handshake failed"), at_most(CAP):
            result.get()


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_peer_that_leaves_ends_the_handshake(own, sent):
    near, far = pair()
    result = handshake(near, own)
    far.sendall(sent)
    far.close()
    with pytest.raises(ConnectionClosed), at_most(CAP):
        result.get()


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_peer_that_stalls_ends_the_handshake_in_time(own, sent):
    near, far = pair()
    with far:
        result = handshake(near, own, seconds=0.1)
        far.sendall(sent)
        with pytest.raises(DeadlineExceeded, match=r"0\.1 seconds"), at_most(2.0):
            result.get()
        assert far.recv(1000) == b""


def test_a_byte_now_and_then_does_not_stretch_the_time(own):
    near, far = pair()
    with far:
        result = handshake(near, own, seconds=0.3)

        def drip():
            for byte in b"\x16\x03\x01\x02\x00" + bytes(100):
                far.sendall(bytes([byte]))
                gevent.sleep(0.05)

        dripping = gevent.spawn(drip)
        with pytest.raises(DeadlineExceeded), at_most(2.0):
            result.get()
        dripping.kill()


def test_a_greenlet_that_is_killed_in_a_handshake_closes_the_connection(own):
    near, far = pair()
    with far:
        shaking = gevent.spawn(shake_hands, wrap(near, own), Deadline(CAP))
        gevent.idle()
        shaking.kill()
        assert far.recv(1000) == b""


@pytest.mark.parametrize(
    "content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"]
)
def test_files_that_cannot_be_used_are_a_config_error_that_names_them(tmp_path, content):
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        tls.server_context(path, path)


def test_a_key_with_a_password_is_refused_instead_of_asked_for(tmp_path):
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(server_key(), None)
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    (tmp_path / "key.pem").write_bytes(secret)
    (tmp_path / "tls.pem").write_bytes(server_key())
    with pytest.raises(ConfigError, match="without a password"):
        tls.server_context(tmp_path / "tls.pem", tmp_path / "key.pem")
