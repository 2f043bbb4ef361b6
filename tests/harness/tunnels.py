"""Tunnels of the server without a server around them."""

from localtunnel.errors import RefusedError
from localtunnel.protocol.version import LTP_0_3, Version
from localtunnel.server.tunnels.demand import Shares
from localtunnel.server.tunnels.join import Joins
from localtunnel.server.tunnels.pool import Pool
from localtunnel.server.tunnels.refusals import Refusals
from localtunnel.server.tunnels.succession import Succession
from localtunnel.server.tunnels.tunnel import Terms, Tunnel


class Owner:
    """Notes what a tunnel tells its control connection."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.renewals = 0
        self.notices: list[str] = []
        self.ends: list[str] = []

    def resize(self, size: int) -> None:
        self.sizes.append(size)

    def renew(self, pool: Pool) -> None:
        self.renewals += 1

    def turned_away(self, refusals: Refusals) -> None:
        self.notices.append(refusals.take())

    def ended(self, reason: str, verdict: RefusedError | None) -> None:
        self.ends.append(reason)


class SilentOwner(Owner):
    """Tells nobody of refusals, so that the tunnel goes on counting them."""

    def turned_away(self, refusals: Refusals) -> None:
        pass


def make_tunnel(
    name: str = "demo",
    version: Version = LTP_0_3,
    *,
    owner: Owner | None = None,
    joins: Joins | None = None,
) -> Tunnel:
    """Return an open tunnel with room for ten visitors who wait."""
    terms = Terms(name, version, max_waiting=10, succession=Succession())
    return Tunnel(terms, owner or Owner(), Shares(10, 100), Joins() if joins is None else joins)
