"""Requests that the server refuses for a tunnel: the client does not see them, and is
told.
"""

from localtunnel.errors import PoolExhausted, UpstreamInvalid, VisitorError

_EXPLAINED = frozenset({PoolExhausted.code, UpstreamInvalid.code})
"""Codes of errors whose last sentence the client is told: they are about the tunnel,
and its owner can act on them."""


class Refusals:
    """Counts refusals by code until they are taken."""

    __slots__ = ("_counts", "_sentences")

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], int] = {}
        self._sentences: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Say whether there are refusals."""
        return bool(self._counts)

    def add(self, error: VisitorError) -> None:
        """Count a request that was answered with ``error``."""
        key = (error.status, error.code)
        self._counts[key] = self._counts.get(key, 0) + 1
        if error.code in _EXPLAINED:
            self._sentences[error.code] = str(error)

    def take(self) -> str:
        """Return the notice about the counted refusals, and begin again.

        There must be some.
        """
        total = sum(self._counts.values())
        kinds = [f"{status} {code}" for status, code in sorted(self._counts)]
        if total == 1:
            text = f"The server refused a request: {kinds[0]}."
        elif len(kinds) == 1:
            text = f"The server refused {total} requests: {kinds[0]}."
        else:
            counted = [f"{kind} ({self._counts[key]})" for kind, key in zip(kinds, sorted(self._counts), strict=True)]
            text = f"The server refused {total} requests: {', '.join(counted)}."
        sentences = [sentence for _, sentence in sorted(self._sentences.items()) if sentence]
        self._counts.clear()
        self._sentences.clear()
        return " ".join([text, *sentences])
