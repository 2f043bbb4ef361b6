"""localtunnel.net.channel: LTP messages on a real socket."""

import socket

import gevent
import pytest
from harness import HEADER_0_2, at_most, frame, read_message
from harness.channels import channel_and_peer

from localtunnel.errors import ConnectionClosed, DeadlineExceeded, FrameError, HeaderError, MessageError, VersionError
from localtunnel.net import closing
from localtunnel.net.channel import client_channel, server_channel
from localtunnel.net.deadline import Deadline
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import Assigned, ControlReply, ControlRequest, ErrorReply, ProxyRequest
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2

pytestmark = pytest.mark.usefixtures("no_leaks")

CONTROL = HEADER_0_2 + frame({"control": {"name": "foo", "client": "me@here;Linux"}})
PROXY = HEADER_0_2 + frame({"proxy": {"name": "foo", "client": "me@here;Linux"}})


@pytest.fixture
def server_end():
    """A server's channel and the peer's socket."""
    with channel_and_peer(server_channel, "the client") as both:
        yield both


@pytest.fixture
def client_end():
    """A client's channel and the peer's socket."""
    with channel_and_peer(client_channel, LTP_0_2, "the server") as both:
        yield both


def receive_soon(channel, seconds=5.0):
    return channel.receive(Deadline(seconds))


@pytest.mark.parametrize("cut", range(1, len(CONTROL)))
def test_a_request_of_0_2_may_be_cut_anywhere(server_end, cut):
    channel, ours = server_end
    ours.sendall(CONTROL[:cut])
    with pytest.raises(DeadlineExceeded):
        channel.receive(Deadline(0.002))
    ours.sendall(CONTROL[cut:])
    assert receive_soon(channel) == ControlRequest("foo", "me@here;Linux")
    assert channel.version == LTP_0_2
    assert channel.state is State.REQUESTED


def test_nothing_yet_is_none(server_end):
    channel, ours = server_end
    assert channel.receive_ready() is None
    ours.sendall(CONTROL[:10])
    assert channel.receive_ready() is None


def test_bytes_behind_the_last_message_are_handed_over(client_end):
    channel, ours = client_end
    channel.send(ProxyRequest("foo", "me"), header=HEADER_0_2)
    ours.sendall(frame({"proxy": True}) + b"GET / HTTP/1.1\r\n")
    assert receive_soon(channel) == Assigned()
    sock, rest = channel.detach()
    assert rest == b"GET / HTTP/1.1\r\n"
    assert sock.fileno() >= 0
    assert channel.detach() == (sock, b"")


@pytest.mark.parametrize("cut", range(1, len(frame({"proxy": True})) + 8))
def test_the_hand_over_of_0_2_loses_no_byte_wherever_it_is_cut(client_end, cut):
    channel, ours = client_end
    stream = frame({"proxy": True}) + b"payload!"
    channel.send(ProxyRequest("foo", "me"), header=HEADER_0_2)
    ours.sendall(stream[:cut])
    sender = gevent.spawn_later(0.001, ours.sendall, stream[cut:])
    assert receive_soon(channel) == Assigned()
    sender.join()
    sock, rest = channel.detach()
    while len(rest) < 8:
        rest += sock.recv(100)
    assert rest == b"payload!"


def test_messages_that_arrive_together_come_one_by_one(client_end):
    channel, ours = client_end
    channel.send(ControlRequest("foo", "me"), header=HEADER_0_2)
    ours.sendall(frame({"control": {"host": "h", "concurrency": 2, "banner": "b"}}) + frame({"control": "ping"}))
    assert receive_soon(channel) == ControlReply("h", 2, "b")
    assert channel.receive_ready() == messages.PING
    assert channel.receive_ready() is None


def test_header_and_message_go_out_in_one_piece(client_end):
    channel, ours = client_end
    channel.send(ControlRequest("foo", "me"), header=HEADER_0_2)
    assert ours.recv(7) == HEADER_0_2
    assert read_message(ours) == {"control": {"name": "foo", "client": "me"}}


def test_what_may_not_come_now_is_refused_on_both_ways(server_end):
    channel, ours = server_end
    with pytest.raises(MessageError, match="Ping may not come"):
        channel.send(messages.PING)
    ours.sendall(HEADER_0_2 + frame({"control": "pong"}))
    with pytest.raises(MessageError, match="Pong may not come"):
        receive_soon(channel)


def test_the_limit_holds_from_where_it_is_set(server_end):
    channel, ours = server_end
    ours.sendall(CONTROL)
    receive_soon(channel)
    channel.limit(limits.MAX_HEARTBEAT)
    channel.send(ControlReply("h"))
    channel.send(messages.PING)
    ours.sendall((limits.MAX_HEARTBEAT + 1).to_bytes(4, "big"))
    with pytest.raises(FrameError, match="4097 bytes"):
        receive_soon(channel)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"GET / HTTP/1.1\r\n", HeaderError),
        (b"LTX", HeaderError),
        (b"LTP/9.9", VersionError),
        (HEADER_0_2 + b"\xff\xff\xff\xff", FrameError),
        (HEADER_0_2 + frame([1]), MessageError),
        (HEADER_0_2 + frame(b"\xff"), FrameError),
    ],
)
def test_what_is_no_ltp_raises_as_soon_as_that_is_known(server_end, sent, error):
    channel, ours = server_end
    ours.sendall(sent)
    with pytest.raises(error):
        receive_soon(channel)


def test_the_peers_close_is_told(server_end):
    channel, ours = server_end
    ours.sendall(CONTROL[:5])
    ours.close()
    with pytest.raises(ConnectionClosed, match="closed by the client"):
        receive_soon(channel)


def test_a_message_before_the_close_is_still_received(server_end):
    channel, ours = server_end
    ours.sendall(CONTROL)
    ours.close()
    assert receive_soon(channel) == ControlRequest("foo", "me@here;Linux")
    with pytest.raises(ConnectionClosed):
        receive_soon(channel)


def test_the_peers_reset_is_told(server_end):
    channel, ours = server_end
    closing.reset(ours)
    with pytest.raises(ConnectionClosed, match="Reading from the client failed"):
        receive_soon(channel)


def test_dripping_does_not_buy_time(server_end):
    channel, ours = server_end

    def drip():
        for byte in CONTROL:
            ours.sendall(bytes([byte]))
            gevent.sleep(0.02)

    dripper = gevent.spawn(drip)
    with at_most(3), pytest.raises(DeadlineExceeded):
        channel.receive(Deadline(0.2))
    dripper.kill()


def test_a_peer_that_does_not_read_is_given_up_without_waiting(client_end):
    channel, ours = client_end
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    channel.send(ControlRequest("foo", "me"), header=HEADER_0_2)
    # Each pong is 21 bytes on the wire: the buffers of both sockets are full long before the last one.
    with pytest.raises(ConnectionClosed, match="the server does not read"):
        for _ in range(100_000):
            channel.state = State.PINGED
            channel.send(messages.PONG)


def test_writing_to_a_peer_that_is_gone_is_told(server_end):
    channel, ours = server_end
    ours.sendall(PROXY)
    receive_soon(channel)
    closing.reset(ours)
    with at_most(5), pytest.raises(ConnectionClosed, match="Writing to the client failed"):
        while True:
            channel.state = State.PARKED
            channel.send(ErrorReply("exception", "x"))
            gevent.sleep(0)


def test_close_may_be_called_twice(server_end):
    channel, _ = server_end
    channel.close()
    channel.close()
    assert channel.sock.fileno() == -1


def test_a_part_of_a_message_is_told_from_none(client_end):
    channel, ours = client_end
    channel.send(ControlRequest("foo", "me"), header=HEADER_0_2)
    assert channel.receive_ready() is None
    assert not channel.is_mid_message
    ours.sendall(b"\0")
    ours.close()
    with pytest.raises(ConnectionClosed):
        receive_soon(channel)
    assert channel.is_mid_message
