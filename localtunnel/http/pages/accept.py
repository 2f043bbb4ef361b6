"""Which of several media types a visitor likes best (RFC 9110, section 12.5.1)."""

import re
from typing import NamedTuple

_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

_MAX_RANGES = 64
"""Elements of an Accept field that are read: browsers send ten, and a head has room for
thousands."""


class _Range(NamedTuple):
    media: str
    quality: float
    position: int


def choose(accept: str, offered: tuple[str, ...]) -> str:
    """Return the one of ``offered`` that the Accept field ``accept`` ranks highest.

    The most specific range decides the quality of a type. Of equal qualities, the type
    that was named more exactly wins, then the one named earlier, then the one offered
    earlier: ``*/*`` and no field at all give the first one offered. So does a field
    that rules out everything, since an error has to be told somehow.
    """
    ranges = _parse(accept)
    ranked = []
    for order, media in enumerate(offered):
        matches = [(exactness, -item.position, item.quality) for item in ranges if (exactness := _match(item, media))]
        if not matches:
            continue
        exactness, earliness, quality = max(matches)
        if quality > 0:
            ranked.append((quality, exactness, earliness, -order))
    return offered[-max(ranked)[-1]] if ranked else offered[0]


def _match(item: _Range, media: str) -> int:
    """Return how exactly a range names a type: 3 itself, 2 ``type/*``, 1 ``*/*``, 0
    not.
    """
    if item.media == media:
        return 3
    if item.media == media.partition("/")[0] + "/*":
        return 2
    return 1 if item.media == "*/*" else 0


def _parse(accept: str) -> list[_Range]:
    """Split the field, without elements of a malformed quality; only ``q`` is read."""
    ranges = []
    for position, element in enumerate(accept.lower().split(",", _MAX_RANGES)[:_MAX_RANGES]):
        media, *parameters = (part.strip(" \t") for part in element.split(";"))
        quality = next((value for value in parameters if value.startswith("q=")), "q=1").removeprefix("q=")
        if _QUALITY.fullmatch(quality):
            ranges.append(_Range(media, float(quality), position))
    return ranges
