"""Which names a tunnel may have, and how a memorable one is made.

A name is one label of a host name (RFC 1123 2.1: letters, digits and inner hyphens; RFC 1035 2.3.4: 63 at most).
Case does not matter to DNS, so names are kept in lower case.
"""

import re
import secrets

from localtunnel.errors import NameInvalid
from localtunnel.protocol.limits import MAX_NAME

LOOKED_UP = {"autoconfig", "autodiscover", "broadcasthost", "ftp", "imap", "localdomain", "localhost", "mail", "pop"}
"""Names that programs look up by themselves, and would trust: for mail, files, the machine itself (RFC 6761)."""

OWNERS = {"admin", "api", "app", "blog", "cdn", "dashboard", "docs", "localtunnel", "meta", "ns1", "ns2"}
"""Names that a server's owner will want, or that visitors would take for the owner's."""

RESERVED = frozenset({*LOOKED_UP, *OWNERS, "ns", "smtp", "static", "status", "wpad", "www"})
"""What no tunnel may be called. ``wpad`` alone would hand over the proxy settings of a whole office."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
_WORDS = 3


def check(name: str) -> str:
    """Return ``name`` in lower case. Raises NameInvalid with the rule that it breaks."""
    lower = name.lower()
    if not lower:
        raise NameInvalid("The tunnel's name is empty.")
    if len(lower) > MAX_NAME:
        raise NameInvalid(f"The tunnel's name has {len(lower)} characters; a DNS label has {MAX_NAME} at most.")
    if not (name.isascii() and _LABEL.match(lower)):
        raise NameInvalid(
            f"The name {name!r} is not a DNS label: use letters a-z, digits and hyphens, with no hyphen at either end."
        )
    if lower[2:4] == "--":
        raise NameInvalid(f"The name {name!r} has hyphens in third and fourth place, which DNS keeps for its own use.")
    if lower in RESERVED:
        raise NameInvalid(f"The name {lower!r} is reserved; choose another one.")
    return lower


def generate() -> str:
    """Return a new memorable name such as ``brave-amber-otter``; unguessable enough not to be found by trying."""
    import coolname

    coolname.replace_random(secrets.SystemRandom())
    return check("-".join(coolname.generate(_WORDS)))
