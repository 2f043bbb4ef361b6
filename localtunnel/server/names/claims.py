"""The right to a name: whose it is, for which tunnel, and how its client proves that it is the one."""

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
"""A session is 128 random bits: nobody guesses it, so whoever knows it is the client that was told."""


class Owner(NamedTuple):
    """Whom a name belongs to; ``id`` is the same for whatever client proves to be this owner.

    ``kept``: it proved so by a token or by a key, so that its names outlive a restart of this server. Others are known
    by nothing but what they say of themselves and where they come from. ``tunnels`` and ``joined`` are limits of the
    owner's own, None where it has those of everybody.
    """

    id: str
    kept: bool = False
    tunnels: int | None = None
    joined: int | None = None


class Wish(NamedTuple):
    """What a control request asks for, and by what it may follow whoever holds the name.

    ``resume`` is a session; ``takeover`` says that the owner wants its own tunnel moved here, wherever it is open.
    ``address`` is where the client comes from and ``client`` what it says of itself; ``encrypted`` says that all this
    came over TLS.
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
"""Who has a name that is barred."""


def owner_of_key(key: str) -> Owner:
    """Return the owner that a client's key stands for. Of the key only a digest is kept, which opens nothing.

    The key has 256 random bits, so that no salt and no stretching is needed to keep it from being guessed.
    """
    return Owner("key:" + hashlib.sha256(key.encode()).hexdigest(), kept=True)


def owner_of_token(token: str, tunnels: int | None = None, joined: int | None = None) -> Owner:
    """Return the owner that has proved to hold the token with that id, with the limits of the token."""
    return Owner(f"token:{token}", kept=True, tunnels=tunnels, joined=joined)


def owner_of_address(client: str, address: str) -> Owner:
    """Return the owner that is known by its word and its address only."""
    return Owner(f"{client} {address}")


def new_session() -> str:
    """Return a session that nobody else has."""
    return secrets.token_hex(SESSION_BYTES)


def proof_of(session: str) -> bytes:
    """Return what is kept of a session in a file: enough to know it again, and of no use to whoever reads it."""
    return hashlib.sha256(session.encode()).digest()


@dataclass(eq=False, slots=True)
class Claim:
    """The right to a name, and to a host of its own. ``tunnel`` is None while nobody is connected for it: a lease.

    ``address``, ``client`` and ``encrypted`` as in a Wish. ``since`` is when it became what it is, tunnel or lease: a
    time of the wall clock, for people.
    """

    name: str
    owner: Owner
    instance: str
    kind: Kind = "http"
    host: str | None = None
    address: str = ""
    client: str = ""
    session: str = field(default_factory=new_session)
    """Empty in a claim that was read from a file, until its client comes back and shows it."""
    proof: bytes = b""
    port: int | None = None
    since: float = field(default_factory=time.time)
    tunnel: Tunnel | None = None
    cors: bool = False
    """Whether its last tunnel lets scripts of any origin in, so that they are to understand why it is away."""
    timer: Any = None
    place: Place | None = None
    encrypted: bool = False
    succession: Succession = field(default_factory=Succession)
    """For those who were on their way through its tunnel when that ended."""
    barred: Owner | None = None
    """Who had the name before the owner of this server closed it for a while; None in any other claim."""

    def __post_init__(self) -> None:
        self.proof = self.proof or proof_of(self.session)

    def is_session(self, session: str | None) -> bool:
        """Compare ``session`` with this claim's, in a time that does not depend on it."""
        return session is not None and hmac.compare_digest(proof_of(session), self.proof)

    def adopt(self, session: str) -> None:
        """Go on with the session of the claim that this one follows."""
        self.session = session
        self.proof = proof_of(session)

    def lease_ends(self) -> None:
        """Stop the timer that ends the lease, and give the place in the quota back. May be called twice."""
        if self.timer is not None:
            self.timer.close()
            self.timer = None
        if self.place is not None:
            self.place.release()
            self.place = None
