"""Which name belongs to which tunnel, and which tunnel a visitor's host leads to."""

import re
from dataclasses import dataclass

from localtunnel.errors import NameInvalid, NameUnavailable
from localtunnel.protocol import names
from localtunnel.server.tunnel import Tunnel

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAX_HOST = 253


@dataclass(eq=False, slots=True)
class Claim:
    """The right to a name, and to a host of its own. ``tunnel`` is set by whoever claimed, before visitors may come."""

    name: str
    owner: str
    instance: str
    host: str | None = None
    tunnel: Tunnel | None = None


class Registry:
    """Names in memory. ``claim`` may wait and may fail, so that a registry of several machines can take its place."""

    def __init__(self, domain: str) -> None:
        self._suffix = "." + domain
        self._domain = domain
        self._claims: dict[str, Claim] = {}
        """By the host that visitors name: ``NAME.DOMAIN``, and the host of its own that a tunnel asked for."""

    def __len__(self) -> int:
        return len(set(self._claims.values()))

    def claim(self, name: str, owner: str, instance: str, host: str | None = None) -> Claim:
        """Return the claim to ``name``, and to ``host`` where a tunnel wants one outside the server's domain.

        The same instance of the same owner replaces its old claim, whose tunnel ends with ``replaced``. Raises
        NameInvalid, or NameUnavailable when somebody else holds one of the two.
        """
        claim = Claim(names.check(name), owner, instance, self._check_host(host) if host else None)
        keys = self._keys(claim)
        holders = [self._claims[key] for key in keys if key in self._claims]
        for holder in holders:
            if (holder.owner, holder.instance) != (owner, instance):
                taken = name if holder.name == claim.name else host
                raise NameUnavailable(f"The name {taken!r} is in use by another client; choose another one.")
        for holder in holders:
            self.release(holder)
            if holder.tunnel is not None:
                holder.tunnel.end("replaced")
        self._claims.update(dict.fromkeys(keys, claim))
        return claim

    def release(self, claim: Claim) -> None:
        """Give the name up. A claim that was replaced leaves its successor alone. May be called twice."""
        for key in self._keys(claim):
            if self._claims.get(key) is claim:
                del self._claims[key]

    def find(self, name: str) -> Claim | None:
        """Return the claim to a tunnel's name."""
        return self._claims.get(name.lower() + self._suffix)

    def route(self, host: str) -> Tunnel | None:
        """Return the open tunnel that a visitor's ``host`` (lower case, no port) leads to."""
        claim = self._claims.get(host)
        return None if claim is None else claim.tunnel

    def tunnels(self) -> list[Tunnel]:
        """Return every open tunnel once."""
        return [claim.tunnel for claim in set(self._claims.values()) if claim.tunnel is not None]

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
