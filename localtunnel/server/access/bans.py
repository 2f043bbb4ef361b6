"""The networks from which clients may not connect. They outlive a restart."""

import time
from collections.abc import Callable, Iterator

from localtunnel.networks import Network, Networks, parse_address, parse_network
from localtunnel.server.limits.rates import Bucket, Rate
from localtunnel.server.store import Statement, Store

WORDS = Rate(1.0)
"""How many connections per second from one banned network are told of the ban, after a
burst of five. A client that meets the server for the first time needs two, and each may
cost the server a handshake."""

SCHEMA = "CREATE TABLE IF NOT EXISTS bans (network TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID"


class Bans:
    """The table ``bans``, with a copy in memory for the check of each connection."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._since: dict[Network, float] = {}
        self._banned = Networks()
        self._told: dict[Network, Bucket] = {}

    def __iter__(self) -> Iterator[tuple[Network, float]]:
        """Yield each banned network with the wall clock time of its ban."""
        return iter(sorted(self._since.items(), key=lambda item: item[1]))

    def load(self) -> None:
        """Read the table. Blocks the greenlet."""
        rows = self._store.read(Statement("SELECT network, since FROM bans"))
        self._since = {parse_network(network): since for network, since in rows}
        self._banned = Networks(self._since)

    def add(self, network: Network) -> None:
        """Ban ``network``; blocks the greenlet until that is on the disk.

        Raises StorageError.
        """
        since = time.time()
        self._store.write(Statement("INSERT OR IGNORE INTO bans VALUES (?, ?)", (str(network), since)))
        self._since.setdefault(network, since)
        self._banned = Networks(self._since)

    def remove(self, network: Network) -> bool:
        """End the ban of ``network``, and say whether there was one.

        Blocks the greenlet. Raises StorageError.
        """
        self._store.write(Statement("DELETE FROM bans WHERE network = ?", (str(network),)))
        self._told.pop(network, None)
        was_banned = self._since.pop(network, None) is not None
        self._banned = Networks(self._since)
        return was_banned

    def hold(self, host: str) -> bool:
        """Say whether ``host``, a numeric address, is banned."""
        return host in self._banned

    def may_be_told(self, host: str) -> bool:
        """Count a client from the banned ``host``, and say whether it may be told so."""
        address = parse_address(host)
        network = next((network for network in self._since if address in network), None)
        if network is None:
            return False
        return self._told.setdefault(network, Bucket(WORDS)).take(self._clock()) == 0.0
