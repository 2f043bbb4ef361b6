"""Addresses from which no client may connect, until the server's owner says otherwise. They outlive a restart."""

import ipaddress
import time
from collections.abc import Iterable, Iterator

from localtunnel.errors import AddressError
from localtunnel.server.store import Statement, Store

SCHEMA = "CREATE TABLE IF NOT EXISTS bans (network TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """Return the address or the network (``203.0.113.0/24``) that ``text`` names. Raises AddressError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        forms = "Write one such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/64."
        raise AddressError(f"{text!r} is not an IP address or network. {forms}") from None


class Bans:
    """The table ``bans``, in memory as well, for it is looked at for every connection of a client."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._networks: dict[Network, float] = {}

    def __iter__(self) -> Iterator[tuple[Network, float]]:
        """Yield each banned network, and since when (seconds of the clock on the wall)."""
        return iter(sorted(self._networks.items(), key=lambda item: item[1]))

    def load(self) -> None:
        """Read the table. Blocks the greenlet."""
        rows = self._store.read(Statement("SELECT network, since FROM bans"))
        self._networks = {parse_network(network): since for network, since in rows}

    def add(self, network: Network) -> None:
        """Ban ``network``. Blocks the greenlet until that is on the disk. Raises StorageError."""
        since = time.time()
        self._store.write(Statement("INSERT OR IGNORE INTO bans VALUES (?, ?)", (str(network), since)))
        self._networks.setdefault(network, since)

    def remove(self, network: Network) -> bool:
        """End the ban of ``network`` and say whether there was one. Blocks the greenlet. Raises StorageError."""
        self._store.write(Statement("DELETE FROM bans WHERE network = ?", (str(network),)))
        return self._networks.pop(network, None) is not None

    def hold(self, host: str) -> bool:
        """Say whether ``host``, a numeric address, is banned."""
        if not self._networks:
            return False
        return includes(self._networks, host)


def includes(networks: Iterable[Network], host: str) -> bool:
    """Say whether one of ``networks`` has the numeric address ``host``."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
