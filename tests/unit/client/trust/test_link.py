"""localtunnel.client.trust.link: what a server hears before it is trusted."""

import pytest
import trustme
from harness import CAP, wait_until
from harness.tls import TlsListening, write_certificate

from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.link import Link
from localtunnel.client.trust.trust import Trust
from localtunnel.errors import KeyChanged
from localtunnel.net.address import HostPort
from localtunnel.net.deadline import Deadline

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_server_with_the_wrong_key_is_left_before_anything_was_sent(tmp_path):
    path = write_certificate(trustme.CA(), tmp_path, "localhost")
    link = Link(Trust("localhost", KnownServers(tmp_path), pinned="SHA256:another"))
    with TlsListening(path) as server:
        with pytest.raises(KeyChanged):
            link.connect(HostPort("127.0.0.1", server.port), Deadline(CAP), encrypted=True)
        wait_until(lambda: server.heard, what="the server has seen it")
        assert server.heard[0] == b"" or isinstance(server.heard[0], str)
