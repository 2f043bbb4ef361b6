"""Which names a tunnel may have, and how a memorable one is made.

A name is one label of a host name (RFC 1123 2.1: letters, digits and inner hyphens; RFC
1035 2.3.4: 63 at most). DNS ignores case, so names are kept in lower case.
"""

import re
import secrets
import string
from collections.abc import Sequence
from fnmatch import fnmatchcase

from localtunnel.errors import NameInvalid, NameUnavailable
from localtunnel.protocol.limits import MAX_HOST, MAX_NAME

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_WILD = re.compile(r"[*?]|\[!?[^\]]+\]")
_CHARACTERS = string.ascii_lowercase + string.digits
_WORDS = 3


def check(name: str) -> str:
    """Return ``name`` in lower case. Raises NameInvalid with the rule that it
    breaks."""
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
    return lower


def check_host(host: str, domain: str) -> str:
    """Return a tunnel's own host in lower case, without a final dot. ``domain`` is the
    server's.

    Raises NameInvalid for a text that is not a host name, and for a host within that
    domain.
    """
    lower = host.lower().rstrip(".")
    if len(lower) > MAX_HOST or not _HOST.match(lower):
        raise NameInvalid(f"{host!r} is not a host name that a tunnel could have, such as www.example.org.")
    if lower == domain or lower.endswith("." + domain):
        raise NameInvalid(f"{host!r} belongs to this server's own domain; ask for a name instead.")
    return lower


def taken(name: str) -> NameUnavailable:
    """Return the error for a name or a host that another client has, or that is
    reserved for one: the answer does not tell which."""
    return NameUnavailable(f"The name {name!r} is in use by another client; choose another one.")


def generate() -> str:
    """Return a new memorable name such as ``brave-amber-otter``, with too many others
    to find it by trying."""
    import coolname

    coolname.replace_random(secrets.SystemRandom())
    return check("-".join(coolname.generate(_WORDS)))


def generate_for(patterns: Sequence[str]) -> str | None:
    """Return a new name that one of ``patterns`` covers, None if there is no such name.

    A pattern is a name or a glob, such as ``ann-*``, which becomes
    ``ann-brave-amber-otter``. Globs come first, since only they leave room for a new
    name.
    """
    globs = [pattern for pattern in patterns if _WILD.search(pattern)]
    for pattern in (*globs, *(pattern for pattern in patterns if pattern not in globs)):
        name = _filled(pattern)
        if fnmatchcase(name, pattern) and _is_name(name):
            return name
    return None


def _filled(pattern: str) -> str:
    """Return ``pattern`` with words for its first ``*``, nothing for the others, and a
    character for any other wild."""
    words = [generate()] if "*" in pattern else []

    def fill(match: re.Match[str]) -> str:
        wild = match[0]
        if wild == "*":
            return words.pop() if words else ""
        return secrets.choice([character for character in _CHARACTERS if fnmatchcase(character, wild)] or [""])

    return _WILD.sub(fill, pattern)


def _is_name(text: str) -> bool:
    try:
        check(text)
    except NameInvalid:
        return False
    return True
