"""localtunnel.net.channel: what LTP/0.3 adds, and what each version demands and refuses."""

import gevent
import pytest
from harness import HEADER_0_2, frame, read_message
from harness.channels import channel_and_peer
from harness.v3 import HEADER_0_3, SESSION, assignment, control_request, failed, got, proxy_request, ready

from localtunnel.errors import FrameError, MessageError
from localtunnel.net.channel import assigned_channel, client_channel, ended_channel, parked_channel, server_channel
from localtunnel.net.deadline import Deadline
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import (
    Assignment,
    ControlReply,
    ControlRequest,
    ErrorReply,
    Failed,
    Got,
    ProxyRequest,
    Ready,
)
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def server_end():
    """A server's channel and the peer's socket."""
    with channel_and_peer(server_channel, "the client") as both:
        yield both


@pytest.fixture
def client_end():
    """A client's channel of LTP/0.3 and the peer's socket."""
    with channel_and_peer(client_channel, LTP_0_3, "the server") as both:
        yield both


@pytest.fixture
def assigned_end():
    """A server's channel on a connection that was assigned in LTP/0.3, and the client's socket."""
    with channel_and_peer(assigned_channel, "the client") as both:
        yield both


def receive_soon(channel):
    return channel.receive(Deadline(5.0))


def test_a_header_of_0_3_makes_the_connection_one_of_0_3(server_end):
    channel, ours = server_end
    assert channel.version == LTP_0_2
    ours.sendall(control_request("foo", "me@here;Linux", "one"))
    assert receive_soon(channel) == ControlRequest("foo", "me@here;Linux", instance="one")
    assert channel.version == LTP_0_3
    channel.send(ControlReply("h", session=SESSION))
    # Unlike LTP/0.2, both sides may speak when they like.
    for _ in range(3):
        channel.send(messages.PING)
        ours.sendall(frame({"control": "ping"}))
        assert receive_soon(channel) == messages.PING


@pytest.mark.parametrize(
    ("sent", "missing"),
    [
        (HEADER_0_3 + frame({"control": {"name": "foo", "client": "me"}}), "instance"),
        (HEADER_0_3 + frame({"proxy": {"name": "foo", "client": "me"}}), "session"),
        (HEADER_0_2 + frame({"proxy": {"name": "foo", "session": SESSION}}), "client"),
    ],
)
def test_what_a_version_demands_must_be_there(server_end, sent, missing):
    channel, ours = server_end
    ours.sendall(sent)
    with pytest.raises(MessageError, match=missing):
        receive_soon(channel)


@pytest.mark.parametrize("message", [{"got": 1}, {"ready": 1}, {"release": True}])
def test_what_only_0_3_has_is_refused_in_0_2(server_end, message):
    channel, ours = server_end
    ours.sendall(HEADER_0_2 + frame({"control": {"name": "foo", "client": "me"}}))
    receive_soon(channel)
    channel.send(ControlReply("h"))
    ours.sendall(frame(message))
    with pytest.raises(MessageError, match="not a message"):
        receive_soon(channel)


ASSIGNED_STREAM = assignment(7) + b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("cut", range(1, len(ASSIGNED_STREAM)))
def test_the_hand_over_of_0_3_loses_no_byte_wherever_it_is_cut(client_end, cut):
    channel, ours = client_end
    channel.send(ProxyRequest("foo", session=SESSION), header=LTP_0_3.header)
    assert ours.recv(len(HEADER_0_3)) == HEADER_0_3
    assert read_message(ours) == {"proxy": {"name": "foo", "session": SESSION}}
    ours.sendall(ASSIGNED_STREAM[:cut])
    sender = gevent.spawn_later(0.001, ours.sendall, ASSIGNED_STREAM[cut:])
    assert receive_soon(channel) == Assignment(7, "203.0.113.7:51234", "http")
    sender.join()
    sock, rest = channel.detach()
    while len(rest) < len(b"GET / HTTP/1.1\r\n"):
        rest += sock.recv(100)
    assert rest == b"GET / HTTP/1.1\r\n"


ANSWERED_STREAM = got(7) + ready(7) + b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("cut", range(1, len(ANSWERED_STREAM)))
def test_the_answers_to_an_assignment_may_be_cut_anywhere(assigned_end, cut):
    channel, ours = assigned_end
    ours.sendall(ANSWERED_STREAM[:cut])
    sender = gevent.spawn_later(0.001, ours.sendall, ANSWERED_STREAM[cut:])
    assert [receive_soon(channel), receive_soon(channel)] == [Got(7), Ready(7)]
    sender.join()
    sock, rest = channel.detach()
    while len(rest) < len(b"HTTP/1.1 200 OK\r\n"):
        rest += sock.recv(100)
    assert rest == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("before", [b"", got(7)])
def test_a_failure_may_come_before_or_after_got(assigned_end, before):
    channel, ours = assigned_end
    ours.sendall(before + failed(7, "refused"))
    if before:
        assert receive_soon(channel) == Got(7)
    assert receive_soon(channel) == Failed(7, "refused")


@pytest.mark.parametrize(
    "sent",
    [ready(7), got(7) + got(7), got(7) + frame({"control": "pong"}), proxy_request("foo", SESSION)[len(HEADER_0_3) :]],
)
def test_answers_out_of_order_are_refused(assigned_end, sent):
    channel, ours = assigned_end
    ours.sendall(sent)
    with pytest.raises(MessageError, match="may not come"):
        for _ in range(2):
            receive_soon(channel)


def test_an_answer_has_the_limit_of_a_heartbeat(assigned_end):
    channel, ours = assigned_end
    ours.sendall((limits.MAX_HEARTBEAT + 1).to_bytes(4, "big"))
    with pytest.raises(FrameError, match="4097 bytes"):
        receive_soon(channel)


# Connections that come back.

COMES_BACK = frame({"proxy": {"name": "foo", "session": SESSION, "delivered": 42}})
"""The request of one: without a header."""


def ended(received=b""):
    """A server's channel on a connection whose stream has ended, with what came behind that, and the client's end."""
    return channel_and_peer(ended_channel, received, "the client")


@pytest.mark.parametrize("cut", range(len(COMES_BACK) + 1))
def test_a_request_behind_a_stream_may_be_cut_anywhere(cut):
    with ended(COMES_BACK[:cut]) as (channel, ours):
        assert channel.state is State.ENDED
        ours.sendall(COMES_BACK[cut:])
        assert receive_soon(channel) == ProxyRequest("foo", session=SESSION, delivered=42)
        assert channel.state is State.PARKED
        assert channel.version == LTP_0_3
        assert channel.detach() == (channel.sock, b"")


@pytest.mark.parametrize("behind", [b"x", COMES_BACK])
def test_what_comes_behind_the_request_is_left_for_whoever_takes_over(behind):
    with ended(COMES_BACK + behind) as (channel, _):
        receive_soon(channel)
        assert channel.detach() == (channel.sock, behind)


@pytest.mark.parametrize(
    "sent",
    [
        got(7),
        ready(7),
        failed(7, "refused"),
        frame({"control": "ping"}),
        frame({"release": True}),
        frame({"proof": "c=x"}),
        frame({"control": {"name": "foo", "client": "me", "instance": "one"}}),
    ],
)
def test_no_other_message_may_follow_a_stream(sent):
    with ended(sent) as (channel, _), pytest.raises(MessageError, match="may not come while the connection is ended"):
        receive_soon(channel)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (HEADER_0_3 + COMES_BACK, FrameError),
        (bytes(4), FrameError),
        (b"\xff" * 4, FrameError),
        (frame({"unknown": 1}), MessageError),
        (frame({"proxy": True}), MessageError),
        (frame({"proxy": {"name": "foo", "client": "me"}}), MessageError),
        (frame({"proxy": {"name": "foo", "session": SESSION, "delivered": -1}}), MessageError),
    ],
    ids=["a header", "a mark", "a length", "unknown", "assigned", "no session", "delivered"],
)
def test_what_is_no_request_behind_a_stream_is_refused(sent, error):
    with ended(sent) as (channel, _), pytest.raises(error):
        receive_soon(channel)


def test_a_request_that_is_refused_gets_an_error():
    with ended(COMES_BACK) as (channel, ours):
        receive_soon(channel)
        channel.send(ErrorReply("unavailable", "Another's."))
        assert read_message(ours) == {"error": "unavailable", "message": "Another's."}
        assert channel.state is State.CLOSED


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (assignment(7), Assignment(7, "203.0.113.7:51234", "http")),
        (frame({"error": "unavailable"}), ErrorReply("unavailable")),
    ],
)
def test_a_client_that_has_asked_to_come_back_is_parked(sent, message):
    with channel_and_peer(parked_channel, LTP_0_3, "the server") as (channel, ours):
        assert channel.state is State.PARKED
        ours.sendall(sent + b"stream")
        assert receive_soon(channel) == message
        assert channel.detach() == (channel.sock, b"stream")


def test_a_client_that_has_asked_to_come_back_takes_no_other_message():
    with channel_and_peer(parked_channel, LTP_0_3, "the server") as (channel, ours):
        ours.sendall(frame({"control": "ping"}))
        with pytest.raises(MessageError, match="may not come while the connection is parked"):
            receive_soon(channel)
