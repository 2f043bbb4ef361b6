"""The claims to names, and the tunnel to which a visitor's host leads."""

import logging
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import gevent

from localtunnel.errors import ClientKicked, LimitReached, NameUnavailable, StorageError
from localtunnel.protocol import names
from localtunnel.protocol.reserved import Reserved
from localtunnel.server.limits.quotas import Quota
from localtunnel.server.names.claims import NOBODY, Claim, Owner, Wish, owner_of_token
from localtunnel.server.names.leases import Leases
from localtunnel.server.names.ports import Ports
from localtunnel.server.tunnels.tunnel import REPLACED, STOPPED, Tunnel

log = logging.getLogger("localtunnel.server")

RESERVED_LOOK = 60.0
"""Seconds between two checks that a token still reserves an unused name."""


class Policy(NamedTuple):
    """The rules for claims.

    ``token_of(name)`` returns the id of the token that reserves a name.
    """

    reserved: Reserved
    tunnels: Quota
    leases: Quota
    token_of: Callable[[str], str | None] = lambda name: None


class Registry:
    """All claims to names.

    ``claim`` may block and may fail, so that a registry shared by several machines can
    replace it. ``ports`` are those of TCP tunnels. ``leases``, if given, is where
    claims outlive this process.
    """

    def __init__(
        self,
        domain: str,
        policy: Policy | None = None,
        leases: Leases | None = None,
        ports: Ports | None = None,
    ) -> None:
        self._suffix = "." + domain
        self._domain = domain
        self.ports = ports or Ports(range(0))
        self._policy = policy or Policy(Reserved(), Quota("tunnels"), Quota("names that are kept"))
        self._leases = leases
        self._claims: dict[str, Claim] = {}
        """By the visitors' host: ``NAME.DOMAIN``, and the tunnel's own host if it asked
        for one."""

    def __len__(self) -> int:
        return len(set(self._claims.values()))

    def claims(self) -> list[Claim]:
        """Return all claims of tunnels and leases, sorted by name."""
        return sorted(set(self._claims.values()), key=lambda claim: claim.name)

    def restore(self, seconds: float) -> None:
        """Restore the last server's claims as leases of ``seconds``, or of less.

        No lease has more than was left of it. Blocks the greenlet. To be called before
        the server accepts connections.
        """
        for claim, left in self._leases.load(seconds) if self._leases is not None else ():
            if left <= 0 and not self._is_reserved_for(claim):
                self._drop(claim)
                continue
            self._claims.update(dict.fromkeys(self._keys(claim), claim))
            self.ports.inherit(claim)
            claim.place = self._policy.leases.take(claim.address, claim.owner.id, spare=sys.maxsize)
            self._start_lease(claim, max(left, 0.0))

    def claim(self, owner: Owner, instance: str, wish: Wish) -> Claim:
        """Return the claim to the name in ``wish``.

        Blocks the greenlet while it is written down. A tunnel that the new one may
        follow ends with ``replaced``. The new claim keeps its port, and its session if
        the client shows it. Raises NameInvalid; NameUnavailable when another client has
        the name or the host; LimitReached; StorageError when the claim cannot be
        written.
        """
        claim = self._new_claim(owner, instance, wish)
        keys = self._keys(claim)
        holders = {self._claims[key] for key in keys if key in self._claims}
        for holder in holders:
            self._check_may_follow(holder, claim, wish)
        spare = sum(holder.tunnel is not None for holder in holders)
        claim.place = self._policy.tunnels.take(wish.address, owner.id, most=owner.tunnels, spare=spare)
        for holder in holders:
            self._follow(holder, claim, wish.resume)
        self._claims.update(dict.fromkeys(keys, claim))
        self.ports.inherit(claim)
        self._write(claim, known=any(holder.owner.id == owner.id for holder in holders))
        return claim

    def record(self, claim: Claim) -> None:
        """Write ``claim`` down again, with its port.

        Blocks the greenlet. Raises StorageError.
        """
        if self._leases is not None:
            self._leases.put(claim)

    def release(self, claim: Claim) -> None:
        """Free the name, unless ``claim`` was replaced. Idempotent."""
        if self._forget(claim):
            self._drop(claim)
            claim.succession.settle()

    def lease(self, claim: Claim, seconds: float) -> None:
        """Keep the name for ``seconds``: its client has left without releasing it.

        If the owner has as many leases as allowed, its oldest one ends. If the server
        has, this name is freed at once.
        """
        claim.lease_ends()
        if self._claims.get(self._keys(claim)[0]) is not claim:
            return
        claim.tunnel = None
        claim.since = time.time()
        policy = self._policy
        while policy.leases.is_full_for(claim.owner.id):
            self.release(self._oldest_lease(claim.owner))
        try:
            claim.place = policy.leases.take(claim.address, claim.owner.id)
        except LimitReached as error:
            log.warning("name not kept", extra={"tunnel": claim.name, "detail": str(error)})
            self.release(claim)
            return
        self._start_lease(claim, seconds)
        if self._leases is not None:
            self._leases.end(claim, seconds)

    def bar(self, name: str, seconds: float) -> bool:
        """End the tunnel or the lease of ``name``, and bar the name for ``seconds``.

        Returns whether there was one.
        """
        holder = self.find(name)
        if holder is None or holder.owner is NOBODY:
            return False
        self.release(holder)
        barred = Claim(holder.name, NOBODY, "", holder.kind, holder.host, barred=holder.owner)
        self._claims.update(dict.fromkeys(self._keys(barred), barred))
        self._start_lease(barred, seconds)
        if holder.tunnel is not None:
            holder.tunnel.revoke(ClientKicked("The operator of this server has ended the tunnel."))
        return True

    def find(self, name: str) -> Claim | None:
        """Return the claim to ``name``."""
        return self._claims.get(name.lower() + self._suffix)

    def route(self, host: str) -> Claim | None:
        """Return the claim to which a visitor's ``host`` leads.

        ``host`` is in lower case, without a port.
        """
        claim = self._claims.get(host)
        return claim if claim is not None and claim.kind == "http" else None

    def expects(self, host: str) -> bool:
        """Say whether ``host`` is leased, or reserved for a token.

        Its client may connect soon.
        """
        if host in self._claims:
            return self.route(host) is not None
        name = host.removesuffix(self._suffix)
        return name != host and self._policy.token_of(name) is not None

    def tunnels(self) -> list[Tunnel]:
        """Return all open tunnels."""
        return [claim.tunnel for claim in set(self._claims.values()) if claim.tunnel is not None]

    def close(self) -> None:
        """End all tunnels and free all names.

        The file keeps its rows for the next server.
        """
        for claim in self.claims():
            self._forget(claim)
            claim.succession.settle()
            if claim.tunnel is not None:
                claim.tunnel.end(STOPPED)

    def _new_claim(self, owner: Owner, instance: str, wish: Wish) -> Claim:
        name = names.check(wish.name)
        if owner.id != self._owner_of_reserved(name):
            self._policy.reserved.check(name)
        host = names.check_host(wish.host, self._domain) if wish.host else None
        return Claim(name, owner, instance, wish.kind, host, wish.address, wish.client, encrypted=wish.encrypted)

    def _check_may_follow(self, holder: Claim, claim: Claim, wish: Wish) -> None:
        """Raise NameUnavailable unless ``claim`` may follow ``holder``.

        An owner's name stays with the owner: a session alone does not move it. A name
        that was opened over TLS is followed over TLS only, since proofs in the clear
        can be read on the path. Only the owner learns that the tunnel is open or the
        name barred; all other clients get the same answer in any case.
        """
        same_owner = holder.owner.id == claim.owner.id
        may_be_known = claim.encrypted or not holder.encrypted
        if (
            may_be_known
            and same_owner
            and (holder.tunnel is None or holder.instance == claim.instance or wish.takeover)
        ):
            return
        if may_be_known and holder.is_session(wish.resume) and (same_owner or not holder.owner.kept):
            return
        wanted = claim.name if claim.host is None or holder.name == claim.name else claim.host
        if same_owner and claim.owner.kept:
            raise NameUnavailable(f"Another of your clients has {wanted!r} open; --takeover moves it here.")
        if holder.barred is not None and holder.barred.id == claim.owner.id and claim.owner.kept:
            raise NameUnavailable(
                f"The operator of this server has closed the name {wanted!r} for a minute; try again later, or choose "
                "another one."
            )
        raise names.taken(wanted)

    def _follow(self, holder: Claim, claim: Claim, resume: str | None) -> None:
        """Replace ``holder`` by ``claim``; a claim of the same name overwrites its row.

        A session that began in the clear ends when its client comes back over TLS,
        since others may know it. The port stays with the name: the client has proved to
        be its owner, or to know the session.
        """
        if holder.name == claim.name and holder.kind == claim.kind:
            if resume and holder.is_session(resume) and holder.encrypted == claim.encrypted:
                claim.adopt(resume)
            claim.port, holder.port = holder.port, None
        claim.succession.follow(holder.succession)
        if self._forget(holder) and not (holder.name == claim.name and claim.owner.kept):
            self._drop(holder)
        if holder.tunnel is not None:
            holder.tunnel.end(REPLACED)

    def _write(self, claim: Claim, *, known: bool) -> None:
        """Write ``claim`` down, so that the reply is a promise.

        ``known`` says that the owner has a row already. Such an owner may come back
        even if the disk is full, since its row will do. Raises the same errors as
        ``claim``.
        """
        if self._leases is None:
            return
        try:
            self._leases.put(claim)
        except StorageError as error:
            if not known:
                self.release(claim)
                raise
            log.error("lease not renewed on the disk", extra={"tunnel": claim.name, "detail": str(error)})
        except BaseException:
            self._forget(claim)
            raise
        if self._claims.get(self._keys(claim)[0]) is not claim:
            claim.lease_ends()
            raise NameUnavailable(f"Another of your clients has taken {claim.name!r} in the meantime.")

    def _start_lease(self, claim: Claim, seconds: float) -> None:
        claim.timer = gevent.get_hub().loop.timer(seconds)
        claim.timer.start(self._lapse, claim, seconds)

    def _lapse(self, claim: Claim, seconds: float) -> None:
        """The lease is over.

        Go on keeping the name if a token reserves it for its owner.
        """
        if self._is_reserved_for(claim):
            claim.timer.close()
            self._start_lease(claim, max(seconds, RESERVED_LOOK))
        else:
            self.release(claim)

    def _oldest_lease(self, owner: Owner) -> Claim:
        # A claim that is still being written has no tunnel either, and is no lease.
        leases = (claim for claim in self._claims.values() if claim.owner.id == owner.id and claim.timer is not None)
        return min(leases, key=lambda claim: claim.since)

    def _is_reserved_for(self, claim: Claim) -> bool:
        return claim.owner.id == self._owner_of_reserved(claim.name)

    def _owner_of_reserved(self, name: str) -> str | None:
        token = self._policy.token_of(name)
        return None if token is None else owner_of_token(token).id

    def _forget(self, claim: Claim) -> bool:
        """Remove ``claim`` from memory, and say whether it was there."""
        claim.lease_ends()
        held = [key for key in self._keys(claim) if self._claims.get(key) is claim]
        for key in held:
            del self._claims[key]
        if held:
            self.ports.free(claim)
        return bool(held)

    def _drop(self, claim: Claim) -> None:
        if self._leases is not None:
            self._leases.drop(claim)

    def _keys(self, claim: Claim) -> list[str]:
        own = claim.name + self._suffix
        return [own] if claim.host is None else [own, claim.host]
