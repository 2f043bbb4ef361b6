"""localtunnel.server.clients.backend: everything that is no LTP ends as documented, and harms no other tunnel."""

import gevent
import pytest
from harness import (
    HEADER_0_2,
    RawClient,
    assert_error_and_close,
    at_most,
    backend,
    connect,
    frame,
    frontend,
    parse_response,
    read_message,
    read_to_end,
    request,
    running_server,
    wait_until,
)
from harness.inprocess import nothing_but
from harness.v3 import HEADER_0_3, control_request

from localtunnel.net import closing
from localtunnel.protocol import limits

pytestmark = pytest.mark.usefixtures("no_leaks")

ME = "me@laptop;Linux;1"
QUICK = {"preamble": 0.3, "error_hold": 0.05}

CONTROL = HEADER_0_2 + frame({"control": {"name": "foo", "client": ME}})


@pytest.fixture
def server():
    with running_server(timeouts=QUICK, custom_hosts=["*.localhost"]) as running:
        yield running


@pytest.fixture
def other(server):
    """A tunnel that has nothing to do with the test; it must work before and after, whatever the test sends."""
    with RawClient(backend(server), "other") as client:
        client.beat()
        yield client
        client.serve_one_visitor(frontend(server))


# What is none.

NESTED = b'{"control":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
DEEP = b'{"control":{"name":"foo","client":"x","pad":' + b"[" * 8 + b"]" * 8 + b"}}"

ERRORS = {
    "a length of 0xFFFFFFFF": (HEADER_0_2 + b"\xff\xff\xff\xff", "exception"),
    "64 KiB and one byte": (HEADER_0_2 + (64 * 1024 + 1).to_bytes(4, "big"), "exception"),
    "an empty payload": (HEADER_0_2 + frame(b""), "exception"),
    "no JSON": (HEADER_0_2 + frame(b"hello"), "exception"),
    "JSON that is cut off": (HEADER_0_2 + frame(b'{"control": {'), "exception"),
    "two objects in one frame": (HEADER_0_2 + frame(b"{}{}"), "exception"),
    "an array": (HEADER_0_2 + frame([{"control": "x"}]), "exception"),
    "a string": (HEADER_0_2 + frame("control"), "exception"),
    "a number": (HEADER_0_2 + frame(1), "exception"),
    "null": (HEADER_0_2 + frame(None), "exception"),
    "an empty object": (HEADER_0_2 + frame({}), "exception"),
    "an unknown message": (HEADER_0_2 + frame({"hello": {}}), "exception"),
    "both requests at once": (
        HEADER_0_2 + frame({"control": {"name": "a", "client": "b"}, "proxy": {"name": "a", "client": "b"}}),
        "exception",
    ),
    "a name that is a number": (HEADER_0_2 + frame({"control": {"name": 1, "client": ME}}), "exception"),
    "no name": (HEADER_0_2 + frame({"control": {"client": ME}}), "exception"),
    "no client": (HEADER_0_2 + frame({"control": {"name": "foo"}}), "exception"),
    "an empty client": (HEADER_0_2 + frame({"control": {"name": "foo", "client": ""}}), "exception"),
    "a client that is too long": (HEADER_0_2 + frame({"control": {"name": "foo", "client": "c" * 257}}), "exception"),
    "a control request that is text": (HEADER_0_2 + frame({"control": "open"}), "exception"),
    "a proxy request that is true": (HEADER_0_2 + frame({"proxy": True}), "exception"),
    "a pong at the start": (HEADER_0_2 + frame({"control": "pong"}), "exception"),
    "a ping at the start": (HEADER_0_2 + frame({"control": "ping"}), "exception"),
    "an error from a client": (HEADER_0_2 + frame({"error": "exception", "message": "x"}), "exception"),
    "arrays that nest 20,000 deep": (HEADER_0_2 + frame(NESTED), "exception"),
    "one level too deep": (HEADER_0_2 + frame(DEEP), "exception"),
    "invalid UTF-8": (HEADER_0_2 + frame(b'{"control":{"name":"\xff\xfe","client":"x"}}'), "exception"),
    "a lone surrogate": (HEADER_0_2 + frame(rb'{"control":{"name":"\ud800","client":"x"}}'), "exception"),
    "LTP/9.9": (b"LTP/9.9", "version"),
    "LTP/0.1": (b"LTP/0.1" + frame({"control": {"name": "foo", "client": ME}}), "version"),
    "a password without a user": (
        HEADER_0_2 + frame({"control": {"name": "foo", "client": ME, "protect": "pass"}}),
        "exception",
    ),
    "an empty name": (HEADER_0_2 + frame({"control": {"name": "", "client": ME}}), "unavailable"),
    "a name with a dot": (HEADER_0_2 + frame({"control": {"name": "a.b", "client": ME}}), "unavailable"),
    "a reserved name": (HEADER_0_2 + frame({"control": {"name": "www", "client": ME}}), "unavailable"),
    "a name that another client has": (HEADER_0_2 + frame({"control": {"name": "other", "client": ME}}), "unavailable"),
    "a host in the server's own domain": (
        HEADER_0_2 + frame({"control": {"name": "foo", "client": ME, "domain": "other.localhost"}}),
        "unavailable",
    ),
    "a host that the server does not allow": (
        HEADER_0_2 + frame({"control": {"name": "foo", "client": ME, "domain": "www.example.net"}}),
        "exception",
    ),
    "a proxy request for no tunnel": (HEADER_0_2 + frame({"proxy": {"name": "foo", "client": ME}}), "expired"),
    "a proxy request for another's tunnel": (
        HEADER_0_2 + frame({"proxy": {"name": "other", "client": ME}}),
        "unavailable",
    ),
}


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("case", ERRORS)
def test_every_error_is_answered_and_harms_nobody_else(server, case):
    sent, code = ERRORS[case]
    with connect(backend(server)) as sock:
        sock.sendall(sent)
        assert_error_and_close(sock, code)
    nothing_but(server, "other")


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("case", [name for name, (sent, _) in ERRORS.items() if len(sent) < 200])
def test_every_error_is_the_same_byte_by_byte(server, case):
    sent, code = ERRORS[case]
    with connect(backend(server)) as sock:
        for byte in sent:
            sock.sendall(bytes([byte]))
            gevent.sleep(0)
        assert_error_and_close(sock, code)
    nothing_but(server, "other")


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    "case", [name for name, (sent, code) in ERRORS.items() if sent.startswith(HEADER_0_2) and code == "exception"]
)
def test_what_is_no_message_in_0_2_is_none_in_0_3(server, case):
    with connect(backend(server)) as sock:
        sock.sendall(ERRORS[case][0].replace(HEADER_0_2, HEADER_0_3, 1))
        # "exception" would make an LTP/0.3 client say the same again, forever.
        assert_error_and_close(sock, "invalid_request")
    nothing_but(server, "other")


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    "start", [b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\x02\x00", b"\0", b"LTX", b"ltp/0.2", b"LTP/0,2"]
)
def test_a_stranger_is_closed_without_a_word(server, start):
    with connect(backend(server)) as sock:
        sock.sendall(start)
        assert read_to_end(sock) == b""
    nothing_but(server, "other")


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT"])
def test_http_on_the_backend_port_is_told_where_it_is(server, method):
    with connect(backend(server)) as sock:
        sock.sendall(request("foo.localhost", method=method))
        response = parse_response(read_to_end(sock))
    assert response.status == 400
    assert b"frontend" in response.body
    assert int(response.fields["content-length"]) == len(response.body)
    assert response.fields["connection"] == "close"


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("start", [b"", b"LTP", HEADER_0_2, CONTROL[:-1]])
def test_silence_ends_with_an_error_when_the_time_is_over(server, start):
    with connect(backend(server)) as sock, at_most(5):
        sock.sendall(start)
        assert_error_and_close(sock, "exception")
    nothing_but(server, "other")


@pytest.mark.usefixtures("other")
def test_dripping_does_not_buy_time(server):
    with connect(backend(server)) as sock, at_most(5):
        dripper = gevent.spawn(drip, sock)
        gevent.socket.wait_read(sock.fileno(), 5)
        # A byte that met the close would make a reset of it.
        dripper.kill()
        assert_error_and_close(sock, "exception")


def drip(sock):
    for byte in CONTROL:
        sock.sendall(bytes([byte]))
        gevent.sleep(0.05)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
@pytest.mark.parametrize("start", [b"", b"LTP", CONTROL[:-1]])
def test_a_client_that_leaves_within_the_preamble_leaves_nothing(server, start, end):
    sock = connect(backend(server))
    sock.sendall(start)
    gevent.idle()
    end(sock)
    wait_until(lambda: not server.stats().arriving)
    nothing_but(server, "other")


def test_an_error_holds_the_close_back():
    """The client of 2013 redials at once on any error, so the close is what slows it down."""
    with running_server(timeouts={"error_hold": 0.4}) as server, connect(backend(server)) as sock:
        sock.sendall(HEADER_0_2 + frame({}))
        read_message(sock)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(5)
        assert sock.recv(1) == b""


WRONG_ANSWERS = {
    "a pong too many": frame({"control": "pong"}) * 2,
    "a second control request": frame({"control": {"name": "bar", "client": ME}}),
    "a proxy request": frame({"proxy": {"name": "foo", "client": ME}}),
    "an unknown message": frame({"hello": True}),
    "a word of LTP/0.3": frame({"release": True}),
    "a message over 4 KiB": (limits.MAX_HEARTBEAT + 1).to_bytes(4, "big"),
    "another header": HEADER_0_2,
}


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_a_wrong_answer_to_a_ping_ends_the_tunnel_with_an_error(server, case):
    with RawClient(backend(server), "foo", ME) as client:
        assert read_message(client.control) == {"control": "ping"}
        client.control.sendall(WRONG_ANSWERS[case])
        assert_error_and_close(client.control, "exception")
        nothing_but(server, "other")


# Versions.


REQUESTS = {"0.2": CONTROL, "0.3": control_request("foo")}


@pytest.mark.parametrize("version", ["0.2", "0.3"])
def test_each_version_is_answered_in_its_own_way(server, version):
    with connect(backend(server)) as sock:
        sock.sendall(REQUESTS[version])
        reply = read_message(sock)["control"]
    assert ("session" in reply) is (version == "0.3")
    # LTP/0.2 has a pool as the server was told, LTP/0.3 one that follows the demand.
    assert reply["concurrency"] == {"0.2": 10, "0.3": 4}[version]


@pytest.mark.parametrize(("legacy", "spoken", "other"), [("only", "0.2", "0.3"), (False, "0.3", "0.2")])
def test_a_version_that_the_server_was_told_not_to_speak_is_refused(legacy, spoken, other):
    with running_server(legacy=legacy, timeouts=QUICK) as server:
        with connect(backend(server)) as sock:
            sock.sendall(REQUESTS[other])
            error = read_message(sock)
            assert error["error"] == "version"
            assert f"LTP/{spoken} only" in error["message"]
            assert read_to_end(sock) == b""
        nothing_but(server)
        with connect(backend(server)) as sock:
            sock.sendall(REQUESTS[spoken])
            assert "control" in read_message(sock)
