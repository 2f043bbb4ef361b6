"""Quotas for one kind of thing, such as tunnels: of an address, an owner and the
server.

``take`` raises when there is no room. The place that it returns is released once.
Either costs a few dictionary look-ups, and nothing is stored for clients that have
nothing.
"""

import sys
from typing import NamedTuple

from localtunnel.errors import LimitReached
from localtunnel.networks import network_of
from localtunnel.server.config import QuotaLimits

OFF = 0
"""The value that turns a limit off."""


class Place:
    """One place in a quota."""

    __slots__ = ("_address", "_owner", "_quota")

    def __init__(self, quota: "Quota", address: str | None, owner: str | None) -> None:
        self._quota: Quota | None = quota
        self._address = address
        self._owner = owner

    def release(self) -> None:
        """Release the place. Idempotent."""
        quota, self._quota = self._quota, None
        if quota is not None:
            quota.give_back(self._address, self._owner)


class Quota:
    """Counts one kind of thing, named by ``what`` in the plural.

    OFF turns a limit off.
    """

    def __init__(
        self, what: str, *, per_address: int = OFF, per_owner: int = OFF, total: int = OFF, has_addresses: bool = False
    ) -> None:
        """With ``has_addresses``, addresses are counted for ``has``, limit or not."""
        self._what = what
        self._by_address = has_addresses or per_address != OFF
        self._per_address = per_address or sys.maxsize
        self._per_owner = per_owner or sys.maxsize
        self._total = total or sys.maxsize
        self._addresses: dict[str, int] = {}
        self._owners: dict[str, int] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def has(self, address: str) -> bool:
        """Say whether a client at ``address`` has a place."""
        return network_of(address) in self._addresses

    def is_full_for(self, owner: str) -> bool:
        """Say whether ``owner`` has as many as one owner may have."""
        return self._owners.get(owner, 0) >= self._per_owner

    def take(self, address: str, owner: str | None = None, *, most: int | None = None, spare: int = 0) -> Place:
        """Take a place.

        Raises LimitReached, whose text names the limit and not other clients' use.
        ``most`` is a limit of the owner's own, in place of the general one. ``spare``
        is how many places are about to be released because the new one replaces them.
        """
        group = network_of(address) if self._by_address else None
        if self._all >= self._total + spare:
            raise LimitReached(f"This server has reached its limit of {self._what}; try again later.")
        if group is not None and self._addresses.get(group, 0) >= self._per_address + spare:
            raise LimitReached(f"Your address has reached its limit of {self._what} ({self._per_address}).")
        if owner is not None:
            limit = self._per_owner if most is None else most or sys.maxsize
            has = self._owners.get(owner, 0)
            if has >= limit + spare:
                raise LimitReached(f"You have reached your limit of {self._what} ({limit}); end one first.")
            self._owners[owner] = has + 1
        if group is not None:
            self._addresses[group] = self._addresses.get(group, 0) + 1
        self._all += 1
        return Place(self, group, owner)

    def give_back(self, group: str | None, owner: str | None) -> None:
        """Count one less, for a ``Place`` that is released."""
        self._all -= 1
        for counts, key in ((self._addresses, group), (self._owners, owner)):
            if key is not None:
                left = counts[key] - 1
                if left:
                    counts[key] = left
                else:
                    del counts[key]


class Quotas(NamedTuple):
    """The quotas of the server: tunnels, leases, idle proxy connections, visitors."""

    tunnels: Quota
    leases: Quota
    parked: Quota
    joined: Quota


def make_quotas(limits: QuotaLimits) -> Quotas:
    """Return the quotas for the settings."""

    def quota(what: str, key: str) -> Quota:
        return Quota(
            what,
            per_address=getattr(limits, f"{key}_per_address", OFF),
            per_owner=getattr(limits, f"{key}_per_owner", OFF),
            total=getattr(limits, key),
            has_addresses=key in ("tunnels", "leases"),
        )

    return Quotas(
        quota("tunnels", "tunnels"),
        quota("names that are kept", "leases"),
        quota("idle connections", "parked"),
        quota("visitors", "joined"),
    )
