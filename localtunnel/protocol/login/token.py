"""A token as its holder has it: one word with its id, its secret and its server's
fingerprint.

``lt_ID_SECRET_FINGERPRINT_CHECK``, in the lower-case letters and digits of base32 (RFC
4648 6), so that a double click selects it and no shell interprets any part of it. The
server keeps the id and ``scram.Credentials``.
"""

import base64
import binascii
import re
import zlib
from dataclasses import dataclass, field

from localtunnel.errors import ConfigError, TokenInvalid

ID_LENGTH = 8
"""Characters of an id, 5 bits each. An id is not secret. The server makes sure that it
is unique."""

SECRET_LENGTH = 26
"""Characters of a secret: 130 random bits."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"

PREFIX = "lt_"

FINGERPRINT_PREFIX = "SHA256:"

_FINGERPRINT_SIZE = 32
_SHAPE = re.compile(
    rf"{PREFIX}(?P<id>[{ALPHABET}]{{{ID_LENGTH}}})_(?P<secret>[{ALPHABET}]{{{SECRET_LENGTH}}})"
    rf"_(?P<fingerprint>[{ALPHABET}]{{52}})_(?P<check>[{ALPHABET}]{{7}})",
    re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """``fingerprint`` is the server's, as ``lt-server fingerprint`` prints it:
    ``SHA256:`` and base64 unpadded."""

    id: str
    secret: str = field(repr=False)
    fingerprint: str

    def text(self) -> str:
        """Return the word to give to the token's holder."""
        body = f"{PREFIX}{self.id}_{self.secret}_{base32(_digest(self.fingerprint))}"
        return f"{body}_{_checksum(body)}"


def parse(text: str) -> Token:
    """Return the token in ``text``, which may have white space around it and begin with
    a byte order mark.

    Raises TokenInvalid, which does not quote it.
    """
    word = text.removeprefix("\ufeff").strip()
    match = _SHAPE.fullmatch(word)
    if match is None:
        if word.startswith(PREFIX):
            raise TokenInvalid("This is not a whole token: a part of it is missing or changed. Copy it once more.")
        raise TokenInvalid(f"This is not a token; one begins with {PREFIX} and is printed by lt-server token create.")
    if match["check"] != _checksum(word[: match.start("check") - 1]):
        raise TokenInvalid("This token has a wrong letter somewhere, as its check letters show. Copy it once more.")
    digest = base64.b32decode(match["fingerprint"].upper() + "====")
    return Token(match["id"], match["secret"], FINGERPRINT_PREFIX + base64.b64encode(digest).decode().rstrip("="))


def _digest(fingerprint: str) -> bytes:
    encoded = fingerprint.removeprefix(FINGERPRINT_PREFIX)
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _FINGERPRINT_SIZE or not fingerprint.startswith(FINGERPRINT_PREFIX):
        raise ConfigError(f"{fingerprint!r} is not a fingerprint; one is SHA256: and 32 bytes in base64.")
    return digest


def _checksum(body: str) -> str:
    """CRC-32: it finds typing errors. It is no protection against forgery."""
    return base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def base32(data: bytes) -> str:
    """Return ``data`` in base32 as tokens have it: lower case, unpadded."""
    return base64.b32encode(data).decode().rstrip("=").lower()
