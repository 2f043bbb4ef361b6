"""HTTP Basic authentication of visitors (RFC 7617): one user and one password for a
whole tunnel.
"""

import base64
import hmac
import re

_SECRET = re.compile(r"[^\x00-\x1f\x7f-\x9f:]+:[^\x00-\x1f\x7f-\x9f]+")
_SCHEME = b"basic "


class Credentials:
    """Checks a request's user and password without keeping them.

    Only the HMAC-SHA256 of their one spelling is kept, under ``key``: a copy of the
    process's memory tells the password no sooner than trying every one. ``key`` is
    random, and new for each object.
    """

    __slots__ = ("_digest", "_key")

    def __init__(self, text: str, key: bytes) -> None:
        """``text`` is ``user:password``. Raises ``ValueError`` with a sentence that
        does not repeat it.
        """
        if not _SECRET.fullmatch(text):
            raise ValueError(
                "expected USER:PASSWORD, both not empty and without control characters (RFC 7617, section 2)."
            )
        self._key = key
        self._digest = self._digest_of(base64.b64encode(text.encode("utf-8")))

    def __repr__(self) -> str:
        return "<Credentials>"

    def match(self, value: bytes) -> bool:
        """Say whether ``value``, of an Authorization field, is right, in constant
        time.
        """
        token = value[len(_SCHEME) :].lstrip(b" ") if value[: len(_SCHEME)].lower() == _SCHEME else b""
        return hmac.compare_digest(self._digest_of(token), self._digest)

    def _digest_of(self, token: bytes) -> bytes:
        return hmac.digest(self._key, token, "sha256")
