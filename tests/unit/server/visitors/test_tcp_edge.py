"""localtunnel.server.visitors.tcp_edge: listeners of TCP tunnels; ``end_to_end/test_tcp`` has the connections."""

import itertools
import socket

import pytest
from harness import LOOPBACK, unused_port
from harness.tunnels import make_tunnel

from localtunnel.errors import PortRefused
from localtunnel.net.descriptors import Share
from localtunnel.server.visitors.tcp_edge import TcpEdge


def test_a_port_that_another_program_has() -> None:
    port = unused_port()
    edge = TcpEdge(LOOPBACK, itertools.count(1), Share(), loopback=True, wait=1.0)
    tunnel = make_tunnel()
    with socket.create_server((LOOPBACK, port)), pytest.raises(PortRefused, match="another program"):
        edge.listen_for(tunnel, port)
