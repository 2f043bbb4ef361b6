"""The numbers of a running server at one moment."""

from typing import NamedTuple


class Stats(NamedTuple):
    """A snapshot. It has no names and no addresses, so anybody may see it."""

    tunnels: int = 0
    arriving: int = 0
    """Connections at the backend whose first message has not arrived."""
    parked: int = 0
    """Proxy connections that wait for a visitor."""
    returning: int = 0
    """Proxy connections on their way back to be parked, behind a stream that has
    ended."""
    waiting: int = 0
    """Visitors that wait for a proxy connection."""
    joins: int = 0
    """Visitors that have a tunnel, those that wait included."""
    kept: int = 0
    """Joined connections that are kept idle between two exchanges."""
    visitors: int = 0
    """Connections of visitors at the frontend."""
    lingering: int = 0
    """Connections that close after the peer has had the time to read the last
    answer."""
    requests: int = 0
    """Requests of visitors since the start."""
    repeated: int = 0
    """Assignments since the start that were sent again, on another connection."""
