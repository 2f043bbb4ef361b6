"""localtunnel.net.tls.stream_end: the last bytes of a stream whose mark finds no room, at the client and at the
server.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from harness import CAP, LOOPBACK, at_most, unused_port, wait_until
from harness.state import server_key
from harness.tls import tls_pair

from localtunnel.client.sessions.proxies import Proxies
from localtunnel.net.dial import Address
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.tls.context import ServerContext, server_context
from localtunnel.net.tls.stream_end import TlsEnd, begin_stream, stream_end
from localtunnel.protocol.messages import ProxyRequest
from localtunnel.protocol.version import LTP_0_3
from localtunnel.protocol.wire.stream import END, MAX_CHUNK, Unchunker
from localtunnel.server.limits.quotas import Quota
from localtunnel.server.tunnels.returns import Readmission, Returns

pytestmark = pytest.mark.usefixtures("no_leaks")

PIECES = range(1000, MAX_CHUNK, 750)
"""Sizes of the pieces in which a stream is written: the kernel takes another number of bytes of each."""

TakeBack = Callable[[TlsEnd], None]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ServerContext:
    path = Path(tmp_path_factory.mktemp("own")) / "tls.pem"
    path.write_bytes(server_key())
    return server_context(path, path)


@contextmanager
def client() -> Iterator[TakeBack]:
    """A client's pool, whose server is gone."""
    address = Address(socket.AF_INET, (LOOPBACK, unused_port()))
    request = ProxyRequest("shop", session="s" * 32)
    pool = Proxies(address, LTP_0_3, request, 1, 5.0, lambda *_: None, lambda _: None)
    with contextlib.closing(pool):
        yield lambda end: pool.take_back(end, 0)


@contextmanager
def server() -> Iterator[TakeBack]:
    """A tunnel of a server, whose client may bring back as many as it likes."""
    readmission = Readmission(Quota("idle proxy connections").take, lambda *_: None)
    with contextlib.closing(Returns(readmission, lambda end, _: end.close())) as returns:
        yield returns.take


def has_ended(end: TlsEnd) -> bool:
    """Read the peer's mark, if it has come."""
    try:
        return end.try_read(bytearray(1 << 14)) == 0
    except BlockingIOError:
        return False


def fill(end: TlsEnd, piece: int, most: int = sys.maxsize) -> int:
    """Write pieces while there is room, and not more than ``most``; return how many."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while count < most and end.try_write(bytes(piece)):
            count += 1
    return count


def read_slowly(sock: Any) -> tuple[int, bool]:
    """Return how many bytes of the stream come, and whether its mark does."""
    stream, size = Unchunker(), 0
    stream.goes_on = True
    with at_most(CAP, "the stream"), contextlib.suppress(OSError):
        while not stream.ended:
            try:
                data = sock.recv(1 << 14)
            except BlockingIOError:
                gevent.sleep(0.001)
                continue
            if not data:
                break
            size += len(stream.feed(data))
    return size, stream.ended


@pytest.mark.parametrize("side", [client, server])
def test_whatever_the_size_the_last_bytes_come_and_the_mark_does(context, side):
    def pair() -> tuple[TlsEnd, Any]:
        near, far = tls_pair(context, 1 << 16)
        near, far = (near, far) if side is server else (far, near)
        end = stream_end(SocketEnd(near, "peer"), begin_stream(near, b"")[0], goes_on=True)
        far.send(END)
        wait_until(lambda: has_ended(end), what="the end of the other direction")
        return end, far

    found_no_room = 0
    for piece in PIECES:
        end, far = pair()
        with far:
            count = fill(end, piece)
            end.reset()
        end, far = pair()
        with far, side() as take_back:
            if fill(end, piece, count) < count:
                # The kernel takes fewer this time; the stream would be cut on purpose.
                end.reset()
                continue
            take_back(end)
            found_no_room += end._writer is not None
            assert read_slowly(far) == (count * piece, True)
            end.reset()
    assert found_no_room
