"""Public ports for TCP tunnels: which one is whose, of the range that the server's operator set aside."""

from localtunnel.errors import PortRefused
from localtunnel.server.names.claims import Claim
from localtunnel.server.names.leases import Leases


class Ports:
    """Which ports are whose. A port stays with its claim until the claim is freed, leases included.

    A claim that is only leased gives way to another one of the same owner: a client that
    was killed comes back under a name that it generates anew, and asks for its port.
    ``leases`` is where the other one's loss is written down, if anywhere.
    """

    def __init__(self, ports: range, leases: Leases | None = None) -> None:
        self._range = ports
        self._leases = leases
        self._holders: dict[int, Claim] = {}
        self._next = 0

    def reserve(self, claim: Claim, wanted: int | None, *, takeover: bool = False) -> int:
        """Give ``claim`` the port ``wanted``, the one it had before, or any. Raises PortRefused with the reason.

        ``takeover``: an open tunnel of the same owner that has the port ends with ``replaced``.
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
        """Note that ``claim`` has taken over a port, if it is still one of those on offer: that of the claim that it
        followed, which has none by now, or its own from before a restart.
        """
        port = claim.port
        holder = self._holders.get(port) if port is not None else None
        is_taken = holder is not None and holder is not claim and holder.port == port
        if port is None or port not in self._range or is_taken:
            claim.port = None
        else:
            self._holders[port] = claim

    def free(self, claim: Claim) -> None:
        """Take the port of ``claim`` back. May be called twice."""
        if claim.port is not None and self._holders.get(claim.port) is claim:
            del self._holders[claim.port]

    def _take_from(self, holder: Claim, claim: Claim, port: int, *, takeover: bool) -> None:
        """Take ``port``, which ``claim`` wants, from ``holder``. Raises PortRefused where that is somebody else's."""
        if not _may_take_from(claim, holder):
            raise PortRefused(f"Port {port} belongs to another tunnel; choose another one, or leave --remote-port out.")
        if holder.tunnel is not None:
            if not takeover:
                raise PortRefused(f"Another of your clients has port {port} open; --takeover moves it here.")
            holder.tunnel.end("replaced")
        self.free(holder)
        holder.port = None
        if self._leases is not None:
            self._leases.lose_port(holder)

    def _any_free(self, claim: Claim) -> int:
        """Return a free port, the one that was free the longest first, so that old links do not reach new tunnels.

        Where there is none, one that is kept for the same owner, and that nobody is connected for, is as good.
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
    """Say whether ``claim`` proves to be of ``holder``'s owner: what was opened over TLS is not moved in the clear."""
    return holder.owner.id == claim.owner.id and (claim.encrypted or not holder.encrypted)
