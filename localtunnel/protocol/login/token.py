"""A token as its holder has it: one word that names it, proves it, and says which
server it belongs to.

``lt_ID_SECRET_FINGERPRINT_CHECK``, in the lower-case letters and digits of base32 (RFC
4648 6), so that a double click selects it and no shell takes any part of it for
something else. The server keeps the id and ``scram.Credentials``.
"""

import base64
import binascii
import re
import zlib
from dataclasses import dataclass, field

from localtunnel.errors import ConfigError, TokenInvalid

ID_LENGTH = 8
"""Characters of an id, 5 bits each. An id is no secret; the server sees to it that no
two tokens have the same."""

SECRET_LENGTH = 26
"""Characters of a secret: 130 random bits."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"

PREFIX = "lt_"

_FINGERPRINT_SIZE = 32
_SHAPE = re.compile(
    rf"lt_(?P<id>[{ALPHABET}]{{{ID_LENGTH}}})_(?P<secret>[{ALPHABET}]{{{SECRET_LENGTH}}})"
    rf"_(?P<fingerprint>[{ALPHABET}]{{52}})_(?P<check>[{ALPHABET}]{{7}})",
    re.ASCII,
)
_FINGERPRINT_PREFIX = "SHA256:"


@dataclass(frozen=True)
class Token:
    """``fingerprint`` is the server's, as ``lt-server fingerprint`` prints it:
    ``SHA256:`` and base64 unpadded."""

    id: str
    secret: str = field(repr=False)
    fingerprint: str

    def text(self) -> str:
        """Return the word to give to the token's holder."""
        body = f"lt_{self.id}_{self.secret}_{base32(_digest(self.fingerprint))}"
        return f"{body}_{_checksum(body)}"


def parse(text: str) -> Token:
    """Return the token that ``text`` is, white space around it apart, and a byte order
    mark before it.

    Raises TokenInvalid, which does not repeat it.
    """
    word = text.removeprefix("\ufeff").strip()
    match = _SHAPE.fullmatch(word)
    if match is None:
        if word.startswith(PREFIX):
            raise TokenInvalid("This is not a whole token: a part of it is missing or changed. Copy it once more.")
        raise TokenInvalid("This is not a token; one begins with lt_ and is printed by lt-server token create.")
    if match["check"] != _checksum(word[: match.start("check") - 1]):
        raise TokenInvalid("This token has a wrong letter somewhere, as its check letters show. Copy it once more.")
    digest = base64.b32decode(match["fingerprint"].upper() + "====")
    return Token(match["id"], match["secret"], _FINGERPRINT_PREFIX + base64.b64encode(digest).decode().rstrip("="))


def _digest(fingerprint: str) -> bytes:
    encoded = fingerprint.removeprefix(_FINGERPRINT_PREFIX)
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _FINGERPRINT_SIZE or not fingerprint.startswith(_FINGERPRINT_PREFIX):
        raise ConfigError(f"{fingerprint!r} is not a fingerprint; one is SHA256: and 32 bytes in base64.")
    return digest


def _checksum(body: str) -> str:
    """CRC-32: it finds every slip of a few letters that stand together, and is not
    meant to withstand anybody."""
    return base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def base32(data: bytes) -> str:
    """Return ``data`` in base32 as tokens have it: lower case, unpadded."""
    return base64.b32encode(data).decode().rstrip("=").lower()
