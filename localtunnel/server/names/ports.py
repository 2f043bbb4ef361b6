"""The public ports for TCP tunnels, in the range that the server's operator set."""

from localtunnel.errors import PortRefused
from localtunnel.server.names.claims import Claim
from localtunnel.server.names.leases import Leases
from localtunnel.server.tunnels.tunnel import REPLACED


class Ports:
    """The claim of each port.

    A port stays with its claim, leases included, until that is freed. A leased claim
    gives way to another claim of the same owner: a client that was killed comes back
    under a new generated name, and asks for its port. ``leases``, if given, is where
    that loss is written.
    """

    def __init__(self, ports: range, leases: Leases | None = None) -> None:
        self._range = ports
        self._leases = leases
        self._holders: dict[int, Claim] = {}
        self._next = 0

    def reserve(self, claim: Claim, wanted: int | None, *, takeover: bool = False) -> int:
        """Give ``claim`` the port ``wanted``, or the one that it had before, or any.

        Raises PortRefused. With ``takeover``, an open tunnel of the same owner that has
        the port ends with ``replaced``.
        """
        if not self._range:
            raise PortRefused("This server offers no TCP tunnels; its operator can set tcp_ports to a range of ports.")
        wanted = wanted or claim.port
        if wanted is None:
            wanted = self._any_free(claim)
        if wanted not in self._range:
            raise PortRefused(f"Port {wanted} is not offered; choose one of {self._range[0]}-{self._range[-1]}.")
        holder = self._holders.get(wanted, claim)
        if holder is not claim:
            self._take_from(holder, claim, wanted, takeover=takeover)
        self.free(claim)
        self._holders[wanted] = claim
        claim.port = wanted
        return wanted

    def inherit(self, claim: Claim) -> None:
        """Let ``claim`` keep the port of its predecessor, or its own after a restart.

        It loses the port if that is no longer in the range, or is another claim's.
        """
        port = claim.port
        holder = self._holders.get(port) if port is not None else None
        is_taken = holder is not None and holder is not claim and holder.port == port
        if port is None or port not in self._range or is_taken:
            claim.port = None
        else:
            self._holders[port] = claim

    def free(self, claim: Claim) -> None:
        """Take the port of ``claim`` back. Idempotent."""
        if claim.port is not None and self._holders.get(claim.port) is claim:
            del self._holders[claim.port]

    def _take_from(self, holder: Claim, claim: Claim, port: int, *, takeover: bool) -> None:
        """Take ``port`` from ``holder`` for ``claim``.

        Raises PortRefused if it must not have it.
        """
        if not _may_take_from(claim, holder):
            raise PortRefused(f"Port {port} belongs to another tunnel; choose another one, or leave --remote-port out.")
        if holder.tunnel is not None:
            if not takeover:
                raise PortRefused(f"Another of your clients has port {port} open; --takeover moves it here.")
            holder.tunnel.end(REPLACED)
        self.free(holder)
        holder.port = None
        if self._leases is not None:
            self._leases.lose_port(holder)

    def _any_free(self, claim: Claim) -> int:
        """Return a free port, the longest unused first.

        Old links must not reach new tunnels. If none is free, one that is leased to the
        same owner will do.
        """
        kept = None
        for step in range(len(self._range)):
            port = self._range[(self._next + step) % len(self._range)]
            holder = self._holders.get(port)
            if holder is None:
                self._next = (self._next + step + 1) % len(self._range)
                return port
            if kept is None and holder.tunnel is None and _may_take_from(claim, holder):
                kept = port
        if kept is not None:
            return kept
        raise PortRefused("Every TCP port of this server is taken; try again later.")


def _may_take_from(claim: Claim, holder: Claim) -> bool:
    """Say whether both have the same owner.

    A port opened over TLS is not moved in the clear.
    """
    return holder.owner.id == claim.owner.id and (claim.encrypted or not holder.encrypted)
