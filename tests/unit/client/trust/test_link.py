"""localtunnel.client.trust.link: connections to a server that is verified before anything is sent."""

import ssl

import gevent.ssl
import pytest
from gevent.server import StreamServer
from harness import LOOPBACK, at_most
from harness.sockets import listening, read_to_end
from harness.tls import write_unreadable_certificate
from harness.waiting import CAP, wait_until

from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.link import Link
from localtunnel.client.trust.trust import Trust
from localtunnel.errors import TlsError
from localtunnel.net.address import HostPort
from localtunnel.net.deadline import Deadline

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_certificate_that_cannot_be_read_ends_the_connection_with_an_error_of_tls(tmp_path):
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write_unreadable_certificate(tmp_path))
    heard = []

    def serve(sock, _):
        sock.settimeout(CAP)
        with context.wrap_socket(sock, server_side=True) as tls:
            heard.append(read_to_end(tls))

    server = StreamServer(listening(), serve)
    server.start()
    link = Link(Trust("demo", KnownServers(tmp_path), pinned="SHA256:" + "A" * 43))
    try:
        with at_most(CAP), pytest.raises(TlsError, match="cannot be read"):
            link.connect(HostPort(LOOPBACK, server.server_port), Deadline(CAP), encrypted=True)
        wait_until(lambda: heard == [b""], what="the client has closed, and sent nothing")
    finally:
        server.stop(timeout=0)
