"""Tokens of a server in a test, and a client that logs in by hand, over TLS, with whatever it is told to send."""

import ssl as plain_ssl
from pathlib import Path
from typing import Any

from gevent import socket, ssl

from harness.peers import frame, read_message
from harness.sockets import Address, connect
from harness.state import server_key
from harness.v3 import control_request
from localtunnel.net.tls import keys
from localtunnel.protocol.login.scram import ClientLogin
from localtunnel.protocol.login.token import Token
from localtunnel.server.access import tokens

NONCE = "n" * 24


def fingerprint() -> str:
    """Return the fingerprint of the servers of this run."""
    text = server_key().decode()
    return keys.fingerprint(plain_ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :]))


def new_token(directory: Path, **allowed: Any) -> Token:
    """Make a token in a server's data directory, with these fields of its record."""
    return tokens.create(directory, fingerprint(), **allowed)[0]


def change_token(directory: Path, token: Token, **allowed: Any) -> None:
    """Change fields of a token's record; without any, revoke it."""
    with tokens.edit(directory) as records:
        if allowed:
            records[token.id] = tokens.msgspec.structs.replace(records[token.id], **allowed)
        else:
            del records[token.id]


def encrypt(sock: socket.socket) -> socket.socket:
    """Return ``sock`` as a client's TLS connection to whomever it leads to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def binding_of(sock: Any) -> bytes:
    """Return what ties a login to the certificate that the server has shown on ``sock``."""
    return keys.end_point(sock.getpeercert(binary_form=True))


class RawLogin:
    """A control connection over TLS on which a login has begun. A context manager; ``challenge`` may be an error."""

    def __init__(self, address: Address, token: Token, name: str = "demo", **fields: Any) -> None:
        self.sock = encrypt(connect(address))
        self.login = ClientLogin(token.id, token.secret, NONCE, fields.pop("binding", None) or binding_of(self.sock))
        self.sock.sendall(control_request(name, **{"auth": self.login.first, **fields}))
        self.challenge = read_message(self.sock)

    def prove(self, proof: str | None = None) -> Any:
        """Send ``proof``, or a right one, and return the answer."""
        self.sock.sendall(frame({"proof": proof or self.proof()}))
        return read_message(self.sock)

    def proof(self) -> str:
        """Return the answer to the challenge."""
        return self.login.final(self.challenge["challenge"])

    def __enter__(self) -> "RawLogin":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
