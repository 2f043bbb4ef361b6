"""The names that outlive this process, in the table ``leases``. Who holds what while it runs is the registry's to know.

A row without ``expires`` belongs to a client that was connected when it was written. Neither a client's key nor a
session can be had from the file, only what is needed to know them again.
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
    """Reads and writes the table. Claims of owners that are not ``kept`` are not written at all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, seconds: float) -> Iterator[tuple[Claim, float]]:
        """Yield every claim that was written, with the seconds that its lease has left; none may be left.

        Whoever was connected when the last server ended has ``seconds`` from now on: for how long there was no server
        is nobody's fault. No lease has more, however the clock was set meanwhile. Blocks the greenlet.
        """
        now = time.time()
        for name, owner, kind, host, port, session, client, address, expires in self._store.read(Statement(_ALL)):
            # Who has a token or a key has proved it over TLS.
            known = Owner(owner, kept=True)
            claim = Claim(name, known, "", kind, host, address, client, "", session, port, encrypted=True)
            yield claim, seconds if expires is None else min(seconds, expires - now)

    def put(self, claim: Claim) -> None:
        """Block the greenlet until the claim is on the disk. Raises StorageError."""
        if claim.owner.kept:
            row = (claim.name, claim.owner.id, claim.kind, claim.host, claim.port, claim.proof)
            self._store.write(Statement(_PUT, (*row, claim.client, claim.address)))

    def end(self, claim: Claim, seconds: float) -> None:
        """Note that the client has gone, and that its lease ends in ``seconds``."""
        if claim.owner.kept:
            self._store.post(Statement(_END, (time.time() + seconds, claim.name)))

    def lose_port(self, claim: Claim) -> None:
        """Note that the claim's port has gone to another one of its owner."""
        if claim.owner.kept:
            self._store.post(Statement(_LOSE_PORT, (claim.name,)))

    def drop(self, claim: Claim) -> None:
        """Note that the name is free."""
        if claim.owner.kept:
            self._store.post(Statement(_DROP, (claim.name,)))
