"""localtunnel.client.options, and what becomes of them when the server does not take them."""

import pytest
from harness import LOOPBACK, frame, read_message, read_to_end, running_client, unused_port
from harness.v3 import RawBackend, control_reply

from localtunnel import ClientConfig
from localtunnel.client.events import TunnelOpened
from localtunnel.client.options import from_config
from localtunnel.errors import OptionRefused
from localtunnel.protocol.options import to_wire

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
        assert str(error).startswith("The server does not support the option protect and cors. ")
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
