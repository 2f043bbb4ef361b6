"""The same bytes as they may arrive: whole, or cut."""

import zlib

MAX_SINGLE = 512
"""Bytes up to which input is fed one by one as well: beyond that it would take too much of the time there is."""


def arrivals(data: bytes) -> list[list[bytes]]:
    """Return ways in which ``data`` can arrive besides whole. They depend on nothing else, so that findings repeat."""
    place = zlib.crc32(data) % (len(data) + 1)
    ways = [[data[:place], data[place:]]]
    if len(data) <= MAX_SINGLE:
        ways.append([data[at : at + 1] for at in range(len(data))])
    return ways
