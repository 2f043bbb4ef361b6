"""Which name belongs to which tunnel, and which tunnel a visitor's host leads to."""

import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent

from localtunnel.errors import NameInvalid, NameUnavailable
from localtunnel.protocol import names
from localtunnel.protocol.messages import Kind
from localtunnel.server.tunnel import Tunnel

SESSION_BYTES = 16
"""A session is 128 random bits: nobody guesses it, so whoever knows it is the client that was told."""

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAX_HOST = 253


@dataclass(eq=False, slots=True)
class Claim:
    """The right to a name, and to a host of its own. ``tunnel`` is None while nobody is connected for it: a lease."""

    name: str
    owner: str
    instance: str
    kind: Kind = "http"
    host: str | None = None
    session: str = field(default_factory=lambda: secrets.token_hex(SESSION_BYTES))
    port: int | None = None
    tunnel: Tunnel | None = None
    timer: Any = None

    def is_session(self, session: str | None) -> bool:
        """Compare ``session`` with this claim's, in a time that does not depend on it."""
        return session is not None and hmac.compare_digest(session.encode(), self.session.encode())


class Registry:
    """Names in memory. ``claim`` may wait and may fail, so that a registry of several machines can take its place.

    ``freed(claim)`` is called when a claim has ended for good; one that was resumed has handed its port on before.
    """

    def __init__(self, domain: str, freed: Callable[[Claim], None] = lambda claim: None) -> None:
        self._suffix = "." + domain
        self._domain = domain
        self._freed = freed
        self._claims: dict[str, Claim] = {}
        """By the host that visitors name: ``NAME.DOMAIN``, and the host of its own that a tunnel asked for."""

    def __len__(self) -> int:
        return len(set(self._claims.values()))

    def claim(
        self,
        name: str,
        owner: str,
        instance: str,
        *,
        kind: Kind = "http",
        host: str | None = None,
        resume: str | None = None,
    ) -> Claim:
        """Return the claim to ``name``, and to ``host`` where a tunnel wants one outside the server's domain.

        Whoever knows the session in ``resume`` takes the name over, with session and port; so does the same instance of
        the same owner, and any instance of it once the name is only leased. The tunnel that was there ends with
        ``replaced``. Raises NameInvalid, or NameUnavailable when somebody else holds one of the two.
        """
        claim = Claim(names.check(name), owner, instance, kind, self._check_host(host) if host else None)
        keys = self._keys(claim)
        holders = {self._claims[key] for key in keys if key in self._claims}
        for holder in holders:
            if not self._may_follow(holder, claim, resume):
                taken = name if holder.name == claim.name else host
                raise NameUnavailable(f"The name {taken!r} is in use by another client; choose another one.")
        for holder in holders:
            if holder.name == claim.name and holder.kind == claim.kind and holder.is_session(resume):
                claim.session, claim.port, holder.port = (holder.session, holder.port, None)
            self.release(holder)
            if holder.tunnel is not None:
                holder.tunnel.end("replaced")
        self._claims.update(dict.fromkeys(keys, claim))
        return claim

    def release(self, claim: Claim) -> None:
        """Give the name up. A claim that was replaced leaves its successor alone. May be called twice."""
        if claim.timer is not None:
            claim.timer.close()
            claim.timer = None
        held = [key for key in self._keys(claim) if self._claims.get(key) is claim]
        for key in held:
            del self._claims[key]
        if held:
            self._freed(claim)

    def lease(self, claim: Claim, seconds: float) -> None:
        """Keep the name for its client, which has gone without a word, and give it up after ``seconds``."""
        if self._claims.get(self._keys(claim)[0]) is claim:
            claim.tunnel = None
            claim.timer = gevent.get_hub().loop.timer(seconds)
            claim.timer.start(self.release, claim)

    def find(self, name: str) -> Claim | None:
        """Return the claim to a tunnel's name."""
        return self._claims.get(name.lower() + self._suffix)

    def route(self, host: str) -> Claim | None:
        """Return the claim that a visitor's ``host`` (lower case, no port) leads to."""
        claim = self._claims.get(host)
        return claim if claim is not None and claim.kind == "http" else None

    def tunnels(self) -> list[Tunnel]:
        """Return every open tunnel once."""
        return [claim.tunnel for claim in set(self._claims.values()) if claim.tunnel is not None]

    def close(self) -> None:
        """End every tunnel and give every name up."""
        for claim in set(self._claims.values()):
            self.release(claim)
            if claim.tunnel is not None:
                claim.tunnel.end("server stopped")

    def _may_follow(self, holder: Claim, claim: Claim, resume: str | None) -> bool:
        if holder.is_session(resume):
            return True
        same_owner = holder.owner == claim.owner
        return same_owner and (holder.tunnel is None or holder.instance == claim.instance)

    def _keys(self, claim: Claim) -> list[str]:
        own = claim.name + self._suffix
        return [own] if claim.host is None else [own, claim.host]

    def _check_host(self, host: str) -> str:
        lower = host.lower().rstrip(".")
        if len(lower) > _MAX_HOST or not _HOST.match(lower):
            raise NameInvalid(f"{host!r} is not a host name that a tunnel could have, such as www.example.org.")
        if lower == self._domain or lower.endswith(self._suffix):
            raise NameInvalid(f"{host!r} belongs to this server's own domain; ask for a name instead.")
        return lower
