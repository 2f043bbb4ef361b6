"""A long wire between two network namespaces: a pair of TUN devices, and this process,
which delays every packet.

It takes the place of the kernel's netem, which not every kernel has. To be run as root
in the first namespace; it prints a line once both devices are up, and ends, with the
devices, when its stdin does.
"""

import argparse
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

DEVICES = ("wan0", "wan1")
"""One device in each namespace. The namespaces are the benchmark's own, so that the
names meet no others."""

ADDRESSES = ("10.77.0.1", "10.77.0.2")
"""The two ends of the wire, in the order of DEVICES."""

_MTU = 1500
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_NICE = -10
"""This process has priority, since a late packet makes the round trip too long."""

PACE = 0.0005
"""Seconds between two looks at the devices: packets that come together are forwarded
together. A wake-up for each would take CPU from the programs under test."""


class Direction:
    """Packets in flight from one device to the other: each leaves ``seconds`` after it
    came."""

    def __init__(self, source: int, target: int, seconds: float) -> None:
        self._source = source
        self._target = target
        # On average a packet is noticed half a pace late, and written half a pace late.
        self._seconds = seconds - PACE
        self._packets: deque[tuple[float, bytes]] = deque()

    def read(self) -> None:
        """Take every packet that waits."""
        while True:
            try:
                packet = os.read(self._source, _MTU)
            except BlockingIOError:
                return
            self._packets.append((time.monotonic() + self._seconds, packet))

    def write(self) -> float | None:
        """Write what is due; return the seconds until the next packet is, None when
        there is none."""
        while self._packets:
            wait = self._packets[0][0] - time.monotonic()
            if wait > 0:
                return wait
            os.write(self._target, self._packets.popleft()[1])
        return None


def open_tun(name: str) -> int:
    """Return the descriptor of a new TUN device ``name``, which lives as long as it is
    open."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def set_up(other: int) -> list[int]:
    """Make both devices, one here and one in the network namespace of process
    ``other``; return their descriptors."""
    descriptors = [open_tun(name) for name in DEVICES]
    _run("ip", "link", "set", DEVICES[1], "netns", str(other))
    inside = ("nsenter", f"--net=/proc/{other}/ns/net")
    for prefix, device, address, peer in (
        ((), DEVICES[0], ADDRESSES[0], ADDRESSES[1]),
        (inside, DEVICES[1], ADDRESSES[1], ADDRESSES[0]),
    ):
        _run(*prefix, "ip", "address", "add", address, "peer", peer, "dev", device)
        _run(*prefix, "ip", "link", "set", device, "mtu", str(_MTU), "up")
    return descriptors


def forward(descriptors: list[int], seconds: float) -> None:
    """Carry packets both ways, ``seconds`` each way, until stdin ends."""
    first, second = descriptors
    directions = {first: Direction(first, second, seconds), second: Direction(second, first, seconds)}
    stdin = sys.stdin.fileno()
    wait: float | None = None
    while True:
        readable, _, _ = select.select([*directions, stdin], [], [], wait)
        if stdin in readable:
            return
        for descriptor in readable:
            directions[descriptor].read()
        waits = [next_wait for each in directions.values() if (next_wait := each.write()) is not None]
        wait = min(waits, default=None)
        time.sleep(PACE)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main() -> None:
    """Run as a program of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=int, help="a process in the second network namespace")
    parser.add_argument("seconds", type=float, help="how long a packet takes one way")
    arguments = parser.parse_args()
    descriptors = set_up(arguments.other)
    os.nice(_NICE)
    print("ready", flush=True)
    forward(descriptors, arguments.seconds)


if __name__ == "__main__":
    main()
