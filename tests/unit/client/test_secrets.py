"""What a client keeps to itself: in the clear, and towards whoever looks at its events and its log."""

import logging

import pytest
from harness import raw_client
from harness.v3 import SESSION, RawBackend

from localtunnel.client.events import TunnelOpened

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_what_is_for_tls_alone_is_not_said_in_the_clear():
    with RawBackend() as server, raw_client(server):
        _, message = server.accept_control()
        assert not message["control"].keys() & {"owner", "auth", "recycle"}


def test_neither_events_nor_log_tell_the_session(caplog):
    with caplog.at_level(logging.DEBUG), RawBackend() as server, raw_client(server) as client:
        with server.open_tunnel() as control, server.accept_proxy():
            client.wait_for(TunnelOpened)
            control.close()
            _, message = server.accept_control()
            assert message["control"]["resume"] == SESSION
        assert SESSION not in repr(client.events)
    assert SESSION not in "".join(str(vars(record)) for record in caplog.records)
