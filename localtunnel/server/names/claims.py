"""The right to a name: its owner, its tunnel, and what proves that a client has it."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from localtunnel.protocol.messages import Kind
from localtunnel.server.limits.quotas import Place
from localtunnel.server.tunnels.succession import Succession
from localtunnel.server.tunnels.tunnel import Tunnel

SESSION_BYTES = 16
"""A session is 128 random bits, which cannot be guessed: only the client that was told
it knows it."""


class Owner(NamedTuple):
    """The owner of a name.

    ``id`` is the same for all clients that prove to be this owner. A ``kept`` owner has
    proved itself by a token or a key, so its names outlive a restart of the server. Any
    other is known only by its client string and its address. ``tunnels`` is a limit of
    this owner; None means that the general limit applies.
    """

    id: str
    kept: bool = False
    tunnels: int | None = None


class Wish(NamedTuple):
    """The name that a control request asks for, and the proofs that come with it.

    ``resume`` is a session. With ``takeover``, the owner wants its own tunnel moved
    here, wherever it is open. ``address`` is the client's address and ``client`` its
    client string. ``encrypted`` is whether all this came over TLS.
    """

    name: str
    kind: Kind = "http"
    host: str | None = None
    resume: str | None = None
    takeover: bool = False
    address: str = ""
    client: str = ""
    encrypted: bool = False


NOBODY = Owner("server")
"""The owner of a barred name."""


def owner_of_key(key: str) -> Owner:
    """Return the owner for a client's key.

    Only a digest of the key is kept, which opens nothing. The key has 256 random bits,
    so it needs no salt and no stretching against guessing.
    """
    return Owner("key:" + hashlib.sha256(key.encode()).hexdigest(), kept=True)


def owner_of_token(token: str, tunnels: int | None = None) -> Owner:
    """Return the owner for a token's id, with the token's limit of tunnels."""
    return Owner(f"token:{token}", kept=True, tunnels=tunnels)


def owner_of_address(client: str, address: str) -> Owner:
    """Return the owner for a client string and an address, which prove nothing else."""
    return Owner(f"{client} {address}")


def new_session() -> str:
    """Return a new random session."""
    return secrets.token_hex(SESSION_BYTES)


def proof_of(session: str) -> bytes:
    """Return the digest of a session, for the file.

    It recognises the session, and is useless to a reader.
    """
    return hashlib.sha256(session.encode()).digest()


@dataclass(eq=False, slots=True)
class Claim:
    """The right to a name, and to a host of its own.

    ``tunnel`` is None in a lease, while no client is connected. ``address``, ``client``
    and ``encrypted`` are as in a Wish. ``since`` is when it became a tunnel or a lease,
    in wall clock time, for people.
    """

    name: str
    owner: Owner
    instance: str
    kind: Kind = "http"
    host: str | None = None
    address: str = ""
    client: str = ""
    session: str = field(default_factory=new_session)
    """Empty in a claim that was read from the file, until its client comes back and
    shows it."""
    proof: bytes = b""
    port: int | None = None
    since: float = field(default_factory=time.time)
    tunnel: Tunnel | None = None
    cors: bool = False
    """Whether its last tunnel admits scripts of any origin, so that they may read why
    it is offline."""
    timer: Any = None
    place: Place | None = None
    encrypted: bool = False
    succession: Succession = field(default_factory=Succession)
    """For the visitors whose requests were in flight when its tunnel ended."""
    barred: Owner | None = None
    """The owner before the server's operator barred the name; None in any other
    claim."""

    def __post_init__(self) -> None:
        self.proof = self.proof or proof_of(self.session)

    def is_session(self, session: str | None) -> bool:
        """Compare ``session`` with this claim's, in constant time."""
        return session is not None and hmac.compare_digest(proof_of(session), self.proof)

    def adopt(self, session: str) -> None:
        """Continue the session of the claim that this one follows."""
        self.session = session
        self.proof = proof_of(session)

    def lease_ends(self) -> None:
        """Stop the timer that ends the lease, and release the place in the quota.

        Idempotent.
        """
        if self.timer is not None:
            self.timer.close()
            self.timer = None
        if self.place is not None:
            self.place.release()
            self.place = None
