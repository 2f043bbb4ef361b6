"""The options of a tunnel, from the client's settings to the visitor: each is shown by what happens without it."""

import base64

import pytest
from harness import (
    backend,
    connect,
    fetch,
    frontend,
    read_exactly,
    read_head,
    request,
    running_client,
    running_server,
    running_upstream,
)
from harness.peers import RawClient

from localtunnel.errors import OptionRefused

pytestmark = pytest.mark.usefixtures("no_leaks")

PASSWORD = f"Authorization: Basic {base64.b64encode(b'ann:secret').decode()}\r\n"
PREFLIGHT = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"


def upstream(sock):
    """Answer every request of a connection with its own head as the body, a redirect and two cookies."""
    while head := read_head(sock):
        fields = "Location: http://app.test/next\r\nSet-Cookie: a=b; Domain=localhost\r\nSet-Cookie: c=d\r\nX-Up: 1\r\n"
        sock.sendall(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(head)}\r\n\r\n".encode() + head)


@pytest.fixture
def tunnel():
    """A function that opens the tunnel ``demo`` with options, and returns one that sends it a request."""
    with running_server() as server, running_upstream(upstream) as target:
        clients = []

        def open_tunnel(**options):
            clients.append(running_client(frontend(server), target, name="demo", **options))
            clients[-1].__enter__()
            return lambda fields="", method="GET": fetch(
                frontend(server), request("demo.localhost", method=method, fields=f"Connection: close\r\n{fields}")
            )

        yield open_tunnel
        for client in clients:
            client.__exit__(None, None, None)


def test_without_options(tunnel):
    get = tunnel()
    answer = get(f"{PASSWORD}X-Forwarded-For: 1.2.3.4\r\nX-A: visitor\r\n")
    assert answer.status == 200
    assert PASSWORD.encode() in answer.body
    assert b"X-A: visitor" in answer.body
    assert b"1.2.3.4" not in answer.body
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in answer.body
    assert answer.fields["location"] == "http://app.test/next"
    assert not {"server-timing", "access-control-allow-origin"} & answer.fields.keys()
    # A cookie for the server's own domain would reach every tunnel.
    assert answer.fields["set-cookie"] == "c=d"


def test_protect(tunnel):
    get = tunnel(protect="ann:secret")
    refused = get()
    assert (refused.status, refused.fields["x-localtunnel-error"]) == (401, "unauthorized")
    assert refused.fields["www-authenticate"].startswith("Basic ")
    assert get(PASSWORD.replace("Basic ", "Basic x")).status == 401
    answer = get(PASSWORD)
    assert answer.status == 200
    assert b"authorization" not in answer.body.lower()


def test_every_request_of_a_connection_is_asked_for_the_password():
    with (
        running_server() as server,
        running_upstream(upstream) as target,
        running_client(frontend(server), target, name="demo", protect="ann:secret"),
        connect(frontend(server)) as visitor,
    ):
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n" + PASSWORD.encode() + b"\r\n")
        head, _, body = read_head(visitor).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        read_exactly(visitor, length - len(body))
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n")
        assert read_head(visitor).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("networks", "status"), [(["127.0.0.0/8"], 200), (["10.0.0.0/8", "::1"], 403)])
def test_allow_ip(tunnel, networks, status):
    assert tunnel(allow_ip=networks)().status == status


def test_fields(tunnel):
    get = tunnel(
        request_header_add=["X-A: ours"],
        request_header_remove=["Cookie"],
        response_header_add=["X-Up: ours", "X-Down: 2"],
    )
    answer = get("x_a: visitor\r\nCookie: a=b\r\nX-B: c\r\n")
    assert b"X-A: ours\r\n" in answer.body
    assert b"X-B: c\r\n" in answer.body
    assert b"visitor" not in answer.body
    assert b"a=b" not in answer.body
    assert (answer.fields["x-up"], answer.fields["x-down"]) == ("ours", "2")


def test_host_header(tunnel):
    answer = tunnel(host_header="app.test")()
    assert b"\r\nHost: app.test\r\n" in answer.body
    assert b"X-Forwarded-Host: demo.localhost\r\n" in answer.body
    assert answer.fields["location"] == "http://demo.localhost/next"


def test_cors(tunnel):
    ask = tunnel(cors=True, protect="ann:secret")
    preflight = ask(PREFLIGHT, "OPTIONS")
    assert (preflight.status, preflight.fields["access-control-allow-methods"]) == (204, "PUT")
    assert ask("", "OPTIONS").status == 401
    assert ask(PASSWORD).fields["access-control-allow-origin"] == "*"


def test_server_timing(tunnel):
    assert tunnel(server_timing=True)().fields["server-timing"].startswith("edge;dur=")


def test_a_client_of_0_2_has_its_password_too():
    with running_server() as server, RawClient(backend(server), "demo", protect="ann:secret") as client:
        assert "control" in client.reply
        client.beat()
        proxy = client.park()
        assert fetch(frontend(server), request("demo.localhost")).status == 401
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("demo.localhost", fields=PASSWORD))
            assert b"uthorization" not in client.answer_one(proxy)
            assert read_head(visitor).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "options", [{"protect": "ann:secret"}, {"allow_ip": ["127.0.0.1"]}, {"cors": True}, {"host_header": "app.test"}]
)
def test_a_server_that_only_joins_takes_no_options(options):
    with (
        running_server(edge="join", timeouts={"error_hold": 0.0}) as server,
        running_client(frontend(server), 9, name="demo", opened=False, **options) as client,
    ):
        assert isinstance(client.ended(), OptionRefused)
