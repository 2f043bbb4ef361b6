"""The names that outlive this process, in the table ``leases``.

A row without ``expires`` belongs to a client that was connected when it was written.
The file contains neither a client's key nor a session, only digests that recognise
them.
"""

import time
from collections.abc import Iterator

from localtunnel.server.names.claims import Claim, Owner
from localtunnel.server.store import Statement, Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
  name TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, host TEXT, port INTEGER, session BLOB NOT NULL,
  client TEXT NOT NULL, address TEXT NOT NULL, expires REAL
) WITHOUT ROWID
"""

_PUT = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)"
_END = "UPDATE leases SET expires = ? WHERE name = ?"
_DROP = "DELETE FROM leases WHERE name = ?"
_LOSE_PORT = "UPDATE leases SET port = NULL WHERE name = ?"
_ALL = "SELECT name, owner, kind, host, port, session, client, address, expires FROM leases"


class Leases:
    """Reads and writes the table.

    Claims of owners that are not ``kept`` are not written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, seconds: float) -> Iterator[tuple[Claim, float]]:
        """Yield each claim in the table with the seconds left of its lease, if any.

        A client that was connected when the last server ended has ``seconds`` from now:
        the time without a server is not its fault. No lease has more, even if the clock
        was changed. Blocks the greenlet.
        """
        now = time.time()
        for name, owner, kind, host, port, session, client, address, expires in self._store.read(Statement(_ALL)):
            # An owner with a token or a key has proved it over TLS.
            known = Owner(owner, kept=True)
            claim = Claim(name, known, "", kind, host, address, client, "", session, port, encrypted=True)
            yield claim, seconds if expires is None else min(seconds, expires - now)

    def put(self, claim: Claim) -> None:
        """Write ``claim``; blocks the greenlet until it is on the disk.

        Raises StorageError.
        """
        if claim.owner.kept:
            row = (claim.name, claim.owner.id, claim.kind, claim.host, claim.port, claim.proof)
            self._store.write(Statement(_PUT, (*row, claim.client, claim.address)))

    def end(self, claim: Claim, seconds: float) -> None:
        """Note that the client has disconnected: its lease ends in ``seconds``."""
        if claim.owner.kept:
            self._store.post(Statement(_END, (time.time() + seconds, claim.name)))

    def lose_port(self, claim: Claim) -> None:
        """Note that the claim's port has moved to another claim of its owner."""
        if claim.owner.kept:
            self._store.post(Statement(_LOSE_PORT, (claim.name,)))

    def drop(self, claim: Claim) -> None:
        """Delete the row: the name is free."""
        if claim.owner.kept:
            self._store.post(Statement(_DROP, (claim.name,)))
