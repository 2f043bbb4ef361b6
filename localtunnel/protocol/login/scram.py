"""Logging in without sending the secret: SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both
sides, without any I/O.

Each side proves to the other that it knows the token, without sending it. The proofs
cover both nonces, so that a proof cannot be replayed, and the certificate of their TLS
connection (``tls-server-end-point``, RFC 5929 4), so that it cannot be relayed. The
server's ``Credentials`` cannot be used to log in.

Only the part of the RFC's grammar that PROTOCOL.md uses is accepted: the binding is
mandatory, and extensions are refused. The caller provides the nonces. MessageError is
for a malformed message, AuthFailed for a wrong proof.
"""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final, NamedTuple

from localtunnel.errors import AuthFailed, MessageError

ITERATIONS: Final = 4096
"""Rounds of PBKDF2, the least that RFC 7677 allows. They make guessing slow, but a
token has 130 random bits and cannot be guessed at any speed. More rounds would only
cost the laptop time (these cost 2 ms)."""

MAX_ITERATIONS: Final = 65_536
"""The most rounds that a client accepts: 30 ms, in which it does nothing else."""

SALT_SIZE: Final = 16
"""Bytes of a salt: 128 bits are never the same twice."""

NONCE_SIZE: Final = 18
"""Random bytes of either side's nonce: 144 bits, which base64 needs no padding for."""

REFUSED: Final = "The server does not accept this token: it is unknown, wrong or revoked. Ask its operator for another."
"""One sentence for every reason, so that an attacker who tries ids or secrets learns
nothing."""

_GS2_HEADER: Final = "p=tls-server-end-point,,"
_NONCE = r"[!-+\--~]{16,128}"
_BOTH_NONCES = r"[!-+\--~]{32,256}"
_BASE64 = r"[A-Za-z0-9+/]{2,344}={0,2}"
_DIGEST = r"[A-Za-z0-9+/]{43}="
"""The 32 bytes of SHA-256 in base64. Anything longer would be ignored behind them."""

_CLIENT_FIRST = re.compile(rf"{re.escape(_GS2_HEADER)}(n=([a-z0-9]{{1,32}}),r=({_NONCE}))", re.ASCII)
_SERVER_FIRST = re.compile(rf"r=({_BOTH_NONCES}),s=({_BASE64}),i=([1-9][0-9]{{0,6}})", re.ASCII)
_CLIENT_FINAL = re.compile(rf"(c=({_BASE64}),r=({_BOTH_NONCES})),p=({_DIGEST})", re.ASCII)
_SERVER_FINAL = re.compile(rf"v=({_DIGEST})", re.ASCII)


class Credentials(NamedTuple):
    """What a server keeps of a secret: enough to check a client's proof and to make its
    own, too little to log in."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


def credentials(secret: str, salt: bytes, iterations: int = ITERATIONS) -> Credentials:
    """Return what to keep of ``secret`` under a random ``salt``."""
    salted = _salted(secret, salt, iterations)
    return Credentials(salt, iterations, _hash(_client_key(salted)), _server_key(salted))


def decoy(key: bytes, user: str) -> Credentials:
    """Return credentials of a user that does not exist, always the same for one name.

    ``key`` is the server's secret. With them an unknown user is challenged and refused
    like any other. No secret matches them.
    """
    salt, stored_key, server_key = (_hmac(key, f"{part} {user}".encode()) for part in ("salt", "stored", "server"))
    return Credentials(salt[:SALT_SIZE], ITERATIONS, stored_key, server_key)


class ClientLogin:
    """The client's part: send ``first``, then ``final(challenge)``, then check the
    server's answer by ``verify``."""

    def __init__(self, user: str, secret: str, nonce: str, binding: bytes) -> None:
        self.first = f"{_GS2_HEADER}n={user},r={nonce}"
        self._secret = secret
        self._nonce = nonce
        self._binding = _bound(binding)
        self._signature: bytes | None = None

    def final(self, challenge: str) -> str:
        """Return the proof that answers ``challenge``. Raises MessageError; AuthFailed
        if it answers another client's login."""
        nonce, salt, rounds = _read(_SERVER_FIRST, challenge, "challenge")
        iterations = int(rounds)
        if not ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise MessageError(f"The server asks for {iterations} rounds; {ITERATIONS} to {MAX_ITERATIONS} are sound.")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise AuthFailed("The server answered a different login; the connection may be intercepted.")
        without_proof = f"c={self._binding},r={nonce}"
        auth_message = f"{self.first.removeprefix(_GS2_HEADER)},{challenge},{without_proof}".encode()
        salted = _salted(self._secret, _unbase64(salt), iterations)
        self._signature = _hmac(_server_key(salted), auth_message)
        return f"{without_proof},p={_base64(_client_proof(_client_key(salted), auth_message))}"

    def verify(self, answer: str | None) -> None:
        """Check the server's answer to the proof, which only the token's own server can
        give.

        Raises MessageError, or AuthFailed for an answer that proves nothing.
        """
        if answer is None or self._signature is None:
            raise AuthFailed("The server asked for no proof of the token and gave none; it may be another server.")
        signature = _unbase64(_read(_SERVER_FINAL, answer, "answer to the proof")[0])
        if not hmac.compare_digest(signature, self._signature):
            raise AuthFailed("The server could not prove that it knows this token; it may be another server.")


class ServerLogin:
    """The server's part: look up ``user``, send ``challenge(credentials)``, then
    ``verify`` the proof."""

    def __init__(self, first: str, nonce: str, binding: bytes) -> None:
        self._bare, self.user, client_nonce = _read(_CLIENT_FIRST, first, "beginning of a login")
        self._nonce = client_nonce + nonce
        self._binding = _bound(binding)
        self._challenge = ""
        self._credentials: Credentials | None = None

    def challenge(self, credentials: Credentials) -> str:
        """Return the challenge, whose proof will be checked against ``credentials``."""
        self._credentials = credentials
        self._challenge = f"r={self._nonce},s={_base64(credentials.salt)},i={credentials.iterations}"
        return self._challenge

    def verify(self, final: str) -> str:
        """Return the answer to a proof that is right. Raises MessageError, or
        AuthFailed for one that is wrong.

        Everything is computed and compared in any case, so that the time does not tell
        what is wrong.
        """
        without_proof, binding, nonce, proof = _read(_CLIENT_FINAL, final, "proof")
        kept = self._credentials
        if kept is None:
            raise MessageError("A proof came that no challenge asked for.")
        auth_message = f"{self._bare},{self._challenge},{without_proof}".encode()
        client_key = _xor(_unbase64(proof), _hmac(kept.stored_key, auth_message))
        answer = f"v={_base64(_hmac(kept.server_key, auth_message))}"
        bound = hmac.compare_digest(binding, self._binding)
        fresh = hmac.compare_digest(nonce, self._nonce)
        known = hmac.compare_digest(_hash(client_key), kept.stored_key)
        if not (bound and fresh and known):
            raise AuthFailed(REFUSED)
        return answer


def _read(pattern: re.Pattern[str], text: str, what: str) -> tuple[str, ...]:
    """Return the groups of ``text``. No error quotes it, since it may hold secrets."""
    match = pattern.fullmatch(text)
    if match is None:
        raise MessageError(f"This is not the {what} that PROTOCOL.md describes.")
    return match.groups()


def _bound(binding: bytes) -> str:
    """Return the ``c=`` of a proof: the header of the first message and the channel
    binding."""
    return _base64(_GS2_HEADER.encode() + binding)


def _salted(secret: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, iterations)


def _client_key(salted: bytes) -> bytes:
    return _hmac(salted, b"Client Key")


def _server_key(salted: bytes) -> bytes:
    return _hmac(salted, b"Server Key")


def _client_proof(client_key: bytes, auth_message: bytes) -> bytes:
    return _xor(client_key, _hmac(_hash(client_key), auth_message))


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    """Combine two digests."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise MessageError("A part of the login is not base64.") from None
