"""Noticing that somebody moves nothing, by a look every few seconds at how much has moved so far."""


class Progress:
    """How long nothing has moved; ``patience`` is how many seconds that may last."""

    __slots__ = ("_count", "_patience", "_still")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._count = -1
        self._still = 0.0

    def has_stalled(self, count: int, seconds: float) -> bool:
        """Note that ``count`` bytes have moved, ``seconds`` after the last look; say whether it has been too long."""
        if count != self._count:
            self._count, self._still = count, 0.0
        else:
            self._still += seconds
        return self._still >= self._patience
