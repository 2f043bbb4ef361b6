"""A client that logs in: what it asks of the server, and what it does with each refusal. The server is by hand."""

from collections.abc import Iterator

import pytest
from gevent import socket, ssl
from harness import CAP, LOOPBACK, frame, listening, read_exactly, read_message, running_client
from harness.logins import fingerprint
from harness.state import server_key
from harness.v3 import HEADER_0_3

from localtunnel import errors
from localtunnel.cli.exit_codes import exit_code
from localtunnel.client.events import TunnelLost, TunnelOpened
from localtunnel.net.tls.keys import end_point
from localtunnel.protocol.login import scram
from localtunnel.protocol.login.scram import ServerLogin
from localtunnel.protocol.login.token import Token

pytestmark = pytest.mark.usefixtures("no_leaks")

TOKEN = Token("u2fhw6eu", "3pxwfausv4goidx75vzcfjpvly", fingerprint())
KEPT = scram.credentials(TOKEN.secret, b"sixteen bytes ok")
REPLY = {"host": "demo.localhost", "concurrency": 1, "banner": "", "session": "5e" * 16, "heartbeat": 5.0}


class Server:
    """A backend over TLS with the key of this run."""

    def __init__(self, directory) -> None:
        key = directory / "key.pem"
        key.write_bytes(server_key())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(key)
        self.listener = listening()
        self.listener.settimeout(CAP)
        self.port = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = [self.listener]

    def accept(self):
        """Return the next connection and the control request on it.

        A client that has not met this server tries first whether an authority knows it, and ends the handshake.
        """
        while True:
            raw, _ = self.listener.accept()
            raw.settimeout(CAP)
            self.sockets.append(raw)
            try:
                sock = self.context.wrap_socket(raw, server_side=True)
            except ssl.SSLError:
                continue
            self.sockets.append(sock)
            assert read_exactly(sock, len(HEADER_0_3)) == HEADER_0_3
            return sock, read_message(sock)["control"]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def client_of(server, **settings):
    settings = {"token": TOKEN, "name": "demo", "opened": False, **settings}
    return running_client((LOOPBACK, 1), 9, backend=server.port, **settings)


def challenge(login):
    return {"challenge": login.challenge(KEPT)}


def binding():
    text = server_key().decode()
    return end_point(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :]))


def test_a_login_takes_one_round_trip_more_and_says_nothing_secret(server):
    with client_of(server) as client:
        sock, request = server.accept()
        login = ServerLogin(request["auth"], "s" * 24, binding())
        assert login.user == TOKEN.id
        sock.sendall(frame(challenge(login)))
        proof = read_message(sock)
        sock.sendall(frame({"control": {**REPLY, "auth": login.verify(proof["proof"])}}))
        client.wait_for(TunnelOpened)
        assert TOKEN.secret not in f"{request}{proof}"
        assert request.get("owner") is None


@pytest.mark.parametrize("answer", [None, "v=" + "A" * 43 + "="], ids=["no proof", "any proof"])
def test_a_server_that_asks_for_no_proof_opens_nothing(server, answer):
    with client_of(server) as client:
        sock, _ = server.accept()
        sock.sendall(frame({"control": {**REPLY, **({"auth": answer} if answer else {})}}))
        assert isinstance(client.ended(), errors.AuthFailed)
        assert not client.seen(TunnelOpened)


@pytest.mark.parametrize("answer", [None, "v=" + "A" * 43 + "="], ids=["no proof", "wrong proof"])
def test_a_server_that_cannot_prove_itself_opens_nothing(server, answer):
    with client_of(server) as client:
        sock, request = server.accept()
        sock.sendall(frame(challenge(ServerLogin(request["auth"], "s" * 24, binding()))))
        assert set(read_message(sock)) == {"proof"}
        sock.sendall(frame({"control": {**REPLY, **({"auth": answer} if answer else {})}}))
        assert isinstance(client.ended(), errors.AuthFailed)
        assert not client.seen(TunnelOpened)


def test_a_challenge_to_another_login_is_not_answered(server):
    with client_of(server) as client:
        sock, _ = server.accept()
        sock.sendall(frame({"challenge": f"r={'x' * 48},s=c2l4dGVlbiBieXRlcyBvaw==,i=4096"}))
        assert isinstance(client.ended(), errors.AuthFailed)
        assert sock.recv(1) == b""


def test_a_client_without_a_token_answers_no_challenge(server):
    with client_of(server, token=None, retry=False) as client:
        sock, request = server.accept()
        assert "auth" not in request
        sock.sendall(frame({"challenge": f"r={'x' * 48},s=c2l4dGVlbiBieXRlcyBvaw==,i=4096"}))
        assert isinstance(client.ended(), errors.MessageError)
        assert sock.recv(1) == b""


@pytest.mark.parametrize(
    ("code", "error", "number"),
    [
        ("auth_required", errors.AuthRequired, 4),
        ("auth_failed", errors.AuthFailed, 4),
        ("token_expired", errors.TokenExpired, 4),
        ("tls_required", errors.TlsRequired, 4),
        ("not_allowed", errors.NotAllowed, 5),
        ("limit_reached", errors.LimitReached, 5),
        ("invalid_request", errors.RequestInvalid, 7),
    ],
)
def test_refusals_that_end_the_client(server, code, error, number):
    with client_of(server) as client:
        sock, _ = server.accept()
        sock.sendall(frame({"error": code, "message": "A sentence."}))
        ended = client.ended()
        assert (type(ended), str(ended), ended.code, exit_code(ended)) == (error, "A sentence.", code, number)


def test_a_client_that_is_slowed_down_tries_again(server):
    with client_of(server, timeouts={"retry_first": 0.05}) as client:
        for _ in range(2):
            sock, _ = server.accept()
            sock.sendall(frame({"error": "auth_throttled", "message": "Later."}))
        assert client.wait_for(TunnelLost).code == "auth_throttled"


def test_without_retry_it_ends(server):
    with client_of(server, retry=False) as client:
        sock, _ = server.accept()
        sock.sendall(frame({"error": "auth_throttled", "message": "Later."}))
        ended = client.ended()
        assert (type(ended), exit_code(ended)) == (errors.AuthThrottled, 4)


def test_a_token_and_no_encryption_do_not_go_together(server):
    with client_of(server, insecure=True) as client:
        assert isinstance(client.ended(), errors.TlsRequired)


def test_a_client_with_a_token_never_falls_back_to_0_2(server):
    """What closes without a word looks like a server of 2013, or is somebody who wants to be taken for one."""
    with client_of(server, retry=False, legacy=True) as client:
        raw, _ = server.listener.accept()
        raw.close()
        assert isinstance(client.ended(), errors.NetworkError | errors.TlsError)
        server.listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.listener.accept()
