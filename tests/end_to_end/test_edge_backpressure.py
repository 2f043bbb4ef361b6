"""Back-pressure: what nobody takes is not read, so that slow readers and slow upstreams cost neither program memory.

The kernel's buffers on the way take some megabytes of each flow; whatever is offered beyond that stays where it came
from. So much more is offered here than they take that a flow which stops has been stopped.
"""

import socket as plain_socket
from pathlib import Path

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from harness import (
    CAP,
    Address,
    ClientProcess,
    Program,
    ServerProcess,
    connect,
    read_head,
    request,
    running_upstream,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.alone]

MEGABYTE = 1 << 20
PIECE = bytes(64 * 1024)

READERS = 200
DOWNLOAD = 64 * MEGABYTE
"""Bytes offered to each reader: 5 MB, which is 1 GB for all, would fit into the kernel's buffers."""

SENDERS = 50
UPLOAD = 20 * MEGABYTE
"""Bytes that each sender has: 1 GB in all."""

BATCH = 50
"""Flows that begin at the same time: the queue of the upstream's listener is not much longer."""

BUFFER = 16 * 1024
"""Bytes of buffer in which visitors and upstreams receive, so that they take little by themselves."""

SIP = 256
"""Bytes that a reader takes in a second."""

WATCHED = 30
"""Seconds for which memory and flows are looked at."""

CALM = 10
"""Of those, the last ones, in which no upstream and no sender may get rid of another byte but for the readers' sips."""

MAX_GROWTH = 50 * MEGABYTE
"""Bytes by which each program may grow."""


class Flows:
    """What was sent on each of many connections."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    @property
    def total(self) -> int:
        return sum(self.sent)

    def send(self, sock: socket.socket, size: int) -> None:
        """Send ``size`` bytes, however long it takes, and let others go on after each piece."""
        index = len(self.sent)
        self.sent.append(0)
        sock.settimeout(None)
        while self.sent[index] < size:
            self.sent[index] += sock.send(PIECE[: size - self.sent[index]])
            gevent.sleep(0)


def memory(program: Program) -> int:
    """Return the resident memory of a program, in bytes."""
    lines = Path(f"/proc/{program.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def narrow(address: Address) -> socket.socket:
    """Return a connection to ``address`` that receives into a small buffer."""
    sock = socket.socket()
    sock.settimeout(CAP)
    sock.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, BUFFER)
    sock.connect(address)
    return sock


@pytest.mark.timeout(120)
def test_what_nobody_takes_stays_where_it_came_from() -> None:
    """200 visitors hardly read; at the same time 50 more send to an upstream that does not read at all."""
    downloads, uploads = Flows(), Flows()
    over = Event()

    def serve(sock: socket.socket) -> None:
        if read_head(sock).startswith(b"GET"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWNLOAD)
            downloads.send(sock, DOWNLOAD)
        else:
            sock.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, BUFFER)
            over.wait()

    with (
        running_upstream(serve) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        programs = server, client
        before = [memory(program) for program in programs]
        readers, senders, sending = [], [], []
        try:
            for begun in range(0, READERS, BATCH):
                for _ in range(BATCH):
                    readers.append(narrow(server.frontend))
                    readers[-1].sendall(request("demo.localhost"))
                wait_until(lambda size=begun + BATCH: len(downloads.sent) == size, what="the downloads")
            for _ in range(SENDERS):
                senders.append(connect(server.frontend))
                senders[-1].sendall(request("demo.localhost", method="POST", fields=f"Content-Length: {UPLOAD}\r\n"))
                sending.append(gevent.spawn(uploads.send, senders[-1], UPLOAD))

            grown, totals = [0, 0], []
            for _ in range(WATCHED):
                gevent.sleep(1)
                assert all(reader.recv(SIP) for reader in readers)
                grown = [max(most, memory(it) - size) for most, size, it in zip(grown, before, programs, strict=True)]
                totals.append((downloads.total, uploads.total))
        finally:
            gevent.killall(sending)
            over.set()
            for sock in (*readers, *senders):
                sock.close()

    assert max(grown) < MAX_GROWTH
    assert max(downloads.sent) < DOWNLOAD
    assert max(uploads.sent) < UPLOAD
    slack = READERS * SIP * CALM
    calm_downloads, calm_uploads = totals[-CALM]
    assert downloads.total - calm_downloads <= slack
    assert uploads.total == calm_uploads
