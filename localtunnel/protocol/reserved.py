"""Names that no tunnel gets, and names that look like them.

A name is ASCII (``names``), and one that begins with ``xn--`` is refused there, so that
no letter of another script can stand for a Latin one (UTS 39). What remains are digits
and pairs of letters: ``adm1n``, ``rnail``.
"""

from collections.abc import Iterable

from localtunnel.errors import NameInvalid

LOOKED_UP = """
autoconfig autodiscover broadcasthost ftp imap isatap localdomain localhost mail pop smtp wpad www
""".split()
"""Names that programs look up by themselves, and would trust: for mail, files, the
machine itself (RFC 6761).

``wpad`` alone would hand over the proxy settings of an office.
"""

OWNERS = """
abuse account accounts admin administrator api app auth billing blog cdn dashboard docs help hostmaster localtunnel
login meta ns ns1 ns2 postmaster root security signin static status support webmaster
""".split()
"""Names that an operator will want, or that visitors would take for the operator's (RFC
2142 has some of them)."""

DEFAULT = tuple(sorted({*LOOKED_UP, *OWNERS}))
"""The reserved names of a server without a list of its own."""

_PAIRS = (("vv", "w"), ("rn", "m"), ("cl", "d"))
"""Letters that look like another one in most typefaces at the size of an address
bar."""

_DIGITS = str.maketrans({"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "-": None})


def skeletons(name: str) -> frozenset[str]:
    """Return the shapes of ``name``: two names look alike if they share one.

    A 1 may be read as an l or an i. Hyphens are easily overlooked, so they are ignored.
    """
    lower = name.lower()
    spellings = {lower, *(lower.replace(pair, letter) for pair, letter in _PAIRS)}
    plain = {text.translate(_DIGITS) for text in spellings}
    return frozenset(text.replace("1", letter) for text in plain for letter in "li")


class Reserved:
    """A list of names that no tunnel gets."""

    def __init__(self, names: Iterable[str] = DEFAULT) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._looks = {look: name for name in sorted(self._names) for look in skeletons(name)}

    def check(self, name: str) -> None:
        """Raise NameInvalid when ``name`` is on the list, or looks like one that is."""
        if name.lower() in self._names:
            raise NameInvalid(f"The name {name.lower()!r} is reserved; choose another one.")
        for look in skeletons(name):
            if look in self._looks:
                raise NameInvalid(
                    f"The name {name!r} looks like {self._looks[look]!r}, which is reserved; choose another one."
                )
