"""localtunnel.client.options, and what becomes of them when the server does not take them."""

import pytest
from harness import LOOPBACK, RawServer, frame, read_exactly, read_message, read_to_end, running_client, unused_port
from harness.v3 import HEADER_0_3, RawBackend, control_reply

from localtunnel import ClientConfig
from localtunnel.client.events import ServerNotice, TunnelLost, TunnelOpened
from localtunnel.client.options import beyond_0_2, from_config
from localtunnel.errors import ConnectionClosed, OptionRefused, VersionError
from localtunnel.protocol.options import Options, to_wire

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_nothing_is_asked_for_by_default():
    assert to_wire(from_config(ClientConfig(target=8080))) == {}


def test_what_is_set_is_asked_for():
    config = ClientConfig(target=8080, protect="a:b", allow_ip=("::1",), cors=True, response_header_add=("X-A: b",))
    assert to_wire(from_config(config)) == {
        "protect": "a:b",
        "response_header_add": ("X-A: b",),
        "allow_ip": ("::1",),
        "cors": True,
    }


@pytest.mark.parametrize(
    ("target", "setting", "host"),
    [
        (8080, "preserve", None),
        (8080, "rewrite", "localhost:8080"),
        ("localhost:80", "rewrite", "localhost"),
        ("app.internal:8080", "rewrite", "app.internal:8080"),
        ("http://app.internal", "rewrite", "app.internal"),
        ("[::1]:8080", "rewrite", "[::1]:8080"),
        (8080, "app.test", "app.test"),
    ],
)
def test_the_host_for_the_upstream(target, setting, host):
    assert from_config(ClientConfig(target=target, host_header=setting)).host_header == host


def test_what_0_2_has_no_field_for():
    assert beyond_0_2(Options(protect="a:b")) == []
    assert beyond_0_2(Options(protect="a:b", cors=True, allow_ip=("::1",))) == ["allow_ip", "cors"]


def meeting(raw, **settings):
    """Run a client of ours at a server by hand, which it has not reached yet."""
    timeouts = {"retry_first": 0.01, "retry_longest": 0.01}
    settings = {"name": "demo", "backend": raw.port, "insecure": True, "timeouts": timeouts, **settings}
    return running_client((LOOPBACK, 9), unused_port(), opened=False, **settings)


def test_a_server_that_ignores_an_option_gets_no_visitors_to_serve():
    """As one of LTP/0.3 does that is older than the options: its reply names none."""
    with RawBackend() as raw, meeting(raw, cors=True, protect="ann:secret", domain="www.example.org") as client:
        control, message = raw.accept()
        assert message["control"]["options"] == {"protect": "ann:secret", "cors": True}
        assert message["control"]["domain"] == "www.example.org"
        assert "protect" not in message["control"]
        control.sendall(control_reply())
        error = client.ended()
        assert isinstance(error, OptionRefused)
        assert str(error).startswith("The server did not take the option protect and cors: ")
        assert "secret" not in str(error)
        assert read_message(control) == {"release": True}
        assert read_to_end(control) == b""
        assert not client.seen(TunnelOpened)


def test_a_refusal_is_final():
    with RawBackend() as raw, meeting(raw, cors=True) as client:
        control, _ = raw.accept()
        control.sendall(frame({"error": "option_refused", "message": "Not here."}))
        error = client.ended()
        assert isinstance(error, OptionRefused)
        assert str(error) == "Not here."


def old_server_closes(raw):
    first = raw.accept_silently()
    assert read_exactly(first, len(HEADER_0_3)) == HEADER_0_3
    read_message(first)
    first.close()


def test_a_password_and_a_domain_are_kept_at_0_2():
    with RawServer() as raw, meeting(raw, protect="ann:secret", domain="www.example.org") as client:
        old_server_closes(raw)
        control, message = raw.accept()
        assert (message["control"]["protect"], message["control"]["domain"]) == ("ann:secret", "www.example.org")
        assert "options" not in message["control"]
        control.sendall(frame({"control": {"host": "demo.localhost", "concurrency": 1, "banner": "hello"}}))
        client.wait_for(TunnelOpened)


def test_a_password_is_not_sent_in_the_clear_because_encryption_was_cut_off():
    with RawServer() as raw, meeting(raw, protect="ann:secret", insecure=False) as client:
        for _ in range(3):
            sock = raw.accept_silently()
            assert read_exactly(sock, 2) == b"\x16\x03"
            sock.close()
        (notice,) = client.seen(ServerNotice)
        assert notice.text == "The server seems not to speak LTP/0.3, which protect needs."


def test_there_is_no_fallback_that_would_lose_a_guard():
    with RawBackend() as raw, meeting(raw, allow_ip=["10.0.0.0/8"]) as client:
        for _ in range(3):
            sock, _ = raw.accept()
            sock.close()
        notices = [notice.text for notice in client.seen(ServerNotice)]
        assert notices == ["The server seems not to speak LTP/0.3, which allow_ip needs."]
        assert all(lost.code == ConnectionClosed.code for lost in client.seen(TunnelLost))


def test_a_server_that_says_it_speaks_0_2_alone_ends_a_client_with_options():
    with RawBackend() as raw, meeting(raw, cors=True) as client:
        sock, _ = raw.accept()
        sock.sendall(frame({"error": "version", "message": "LTP/0.2 only."}))
        assert isinstance(client.ended(), VersionError)
