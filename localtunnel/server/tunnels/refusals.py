"""The requests that the server refuses in a tunnel's name: its client does not see them, and is told how many came."""

from localtunnel.errors import PoolExhausted, UpstreamInvalid, VisitorError

_EXPLAINED = frozenset({PoolExhausted.code, UpstreamInvalid.code})
"""Codes whose latest sentence goes to the client: it is about the tunnel, and the owner can do something about it."""


class Refusals:
    """Counts by code, until they are taken. Adding one costs as little as a flood of them has to."""

    __slots__ = ("_counts", "_sentences")

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], int] = {}
        self._sentences: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._counts)

    def add(self, error: VisitorError) -> None:
        """Count a request that was answered with ``error``."""
        key = (error.status, error.code)
        self._counts[key] = self._counts.get(key, 0) + 1
        if error.code in _EXPLAINED:
            self._sentences[error.code] = str(error)

    def take(self) -> str:
        """Return what to tell the client of those that were counted, of which there are some, and begin anew."""
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
