"""Networks of a test's own that can fall silent, and what the kernel says about connections."""

import ctypes
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.beside import END_TIMEOUT
from harness.installed import installed

CLONE_NEWNET = 0x40000000
"""From linux/sched.h."""

_TCP_STATES = {"01": "ESTABLISHED", "06": "TIME_WAIT", "08": "CLOSE_WAIT", "0A": "LISTEN"}
"""From net/tcp_states.h: those that a test may want to name."""


def tcp_states(ports: set[int]) -> Counter[str]:
    """Count the TCP sockets that have one of ``ports`` at either end, by state (``ESTABLISHED``, ``CLOSE_WAIT`` …)."""
    states: Counter[str] = Counter()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if ports & {int(address.rpartition(":")[2], 16) for address in (local, remote)}:
                states[_TCP_STATES.get(state, state)] += 1
    return states


class Namespaces:
    """Two network namespaces of the test's own, joined by one cable: ``server`` and ``client``. Needs root.

    Names and addresses (RFC 2544's, for bench tests) hold the test's process id, so that nothing else has them. A
    context manager: it takes everything away again.
    """

    server_host = "198.18.0.1"
    client_host = "198.18.0.2"

    def __init__(self) -> None:
        self.server = f"lt-test-{os.getpid()}-s"
        self.client = f"lt-test-{os.getpid()}-c"
        self._cable = f"lt{os.getpid()}"

    def __enter__(self) -> "Namespaces":
        try:
            for name in (self.server, self.client):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            ends = (f"{self._cable}s", self.server), (f"{self._cable}c", self.client)
            (here, _), (there, _) = ends
            _ip("-n", self.server, "link", "add", here, "type", "veth", "peer", "name", there, "netns", self.client)
            for (device, name), host in zip(ends, (self.server_host, self.client_host), strict=True):
                _ip("-n", name, "address", "add", f"{host}/30", "dev", device)
                _ip("-n", name, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.server, self.client):
            subprocess.run([installed("ip"), "netns", "del", name], stderr=subprocess.DEVNULL, check=False)

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """Be in the namespace ``name``: sockets made and programs started by this thread meanwhile belong to it."""
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{name}") as other:
            _set_network(other.fileno())
            try:
                yield
            finally:
                _set_network(own.fileno())

    def move_client(self, host: str) -> None:
        """Give the client's side the address ``host`` as well, and have it use that for new connections."""
        _ip("-n", self.server, "route", "add", f"{host}/32", "dev", f"{self._cable}s")
        _ip("-n", self.client, "address", "add", f"{host}/32", "dev", f"{self._cable}c")
        _ip("-n", self.client, "route", "add", f"{self.server_host}/32", "dev", f"{self._cable}c", "src", host)

    def unplug_client(self) -> None:
        """Take the cable out at the client's side, so that it has no network."""
        _ip("-n", self.client, "link", "set", f"{self._cable}c", "down")

    def plug_client_in(self) -> None:
        """Undo ``unplug_client``."""
        _ip("-n", self.client, "link", "set", f"{self._cable}c", "up")

    def take_address_of_client(self) -> None:
        """Take its first address from the client's side, as a network does that it has left."""
        _ip("-n", self.client, "address", "del", f"{self.client_host}/30", "dev", f"{self._cable}c")

    def connections(self, port: int) -> Counter[str]:
        """Count the connections that the client's side has to ``port``, by its own address."""
        with self.entered(self.client):
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        made: Counter[str] = Counter()
        for line in lines:
            _, local, remote, state, *_ = line.split()
            if state == "01" and int(remote.rpartition(":")[2], 16) == port:
                made[".".join(str(byte) for byte in reversed(bytes.fromhex(local[:8])))] += 1
        return made

    def blackhole(self) -> None:
        """Lose every packet from now on, without a word to either side.

        The routes stay and nothing is refused: each side sends its packets to a hardware address that nobody has.
        """
        for name, device, host in (
            (self.server, f"{self._cable}s", self.client_host),
            (self.client, f"{self._cable}c", self.server_host),
        ):
            neighbour = ("neigh", "replace", host, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", device)
            _ip("-n", name, *neighbour)

    def mend(self) -> None:
        """Undo ``blackhole``."""
        _ip("-n", self.server, "neigh", "del", self.client_host, "dev", f"{self._cable}s")
        _ip("-n", self.client, "neigh", "del", self.server_host, "dev", f"{self._cable}c")


def _set_network(descriptor: int) -> None:
    """Call setns(2), which Python has from 3.12 on only."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")


def _ip(*arguments: str) -> None:
    subprocess.run([installed("ip"), *arguments], check=True, timeout=END_TIMEOUT)
