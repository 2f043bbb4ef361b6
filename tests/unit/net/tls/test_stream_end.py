"""localtunnel.net.tls.stream_end: a stream over TLS in the pump, with half-close, back
pressure, and cuts that are seen.
"""

import contextlib
import hashlib
import socket

import gevent
import pytest
from harness import CAP, at_most, frame, is_reset, pair, read_exactly, read_to_end, wait_until
from harness.relays import BULK, DIGEST, digest_to_end, send_and_finish
from harness.sockets import wait_until_arrived
from harness.state import server_key
from harness.tls import tls_pair

from localtunnel.errors import FrameError
from localtunnel.net import closing
from localtunnel.net.channel import READS_AT_A_TIME, server_channel
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.flow.relay import Relay
from localtunnel.net.tls import context as tls
from localtunnel.net.tls.stream_end import TlsEnd, begin_stream, stream_end, to_stream
from localtunnel.protocol.wire.stream import END, Unchunker, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "tls.pem"
    path.write_bytes(server_key())
    return tls.server_context(path, path)


class Chain:
    """What a visitor writes comes out at the upstream: two relays, and TLS between them."""

    def __init__(self, context, bufsize=None):
        visitor_sock, self.visitor = pair()
        upstream_sock, self.upstream = pair()
        self.server_sock, self.client_sock = tls_pair(context, bufsize)
        self.reasons = {}
        self.server = Relay(
            SocketEnd(visitor_sock, "visitor"), end_of(self.server_sock, "client"), self._note("server")
        )
        self.client = Relay(
            end_of(self.client_sock, "server"), SocketEnd(upstream_sock, "upstream"), self._note("client")
        )
        self.server.start()
        self.client.start()

    def _note(self, which):
        return lambda reason: self.reasons.setdefault(which, reason)

    def ended(self):
        wait_until(lambda: len(self.reasons) == 2, what=f"the end of both relays, having {self.reasons}")
        self.visitor.close()
        self.upstream.close()
        return self.reasons


def end_of(sock, label):
    stream, _ = begin_stream(sock, b"")
    return stream_end(SocketEnd(sock, label), stream)


class Reader:
    """Reads an end by hand, whenever it can be."""

    def __init__(self, end):
        self.end = end
        self.data = bytearray()
        self.error = None
        self.ended = False
        self._buffer = bytearray(256 * 1024)

    def read(self):
        try:
            size = self.end.try_read(self._buffer)
        except BlockingIOError:
            gevent.sleep(0.001)
            return
        except OSError as error:
            self.error = error
            return
        self.ended = size == 0
        self.data += self._buffer[:size]

    def until(self, predicate, what):
        with at_most(CAP, what):
            while not predicate():
                self.read()


@contextlib.contextmanager
def by_hand(context, bufsize=None):
    """A TlsEnd and the other side's TLS socket."""
    near, far = tls_pair(context, bufsize)
    end = end_of(near, "peer")
    try:
        yield end, far
    finally:
        end.reset()
        far.close()


@pytest.mark.parametrize(
    "records",
    [[chunked(b"more")], [b"\0"], [b"\0\0\0\4"], [b"\0\0\0\4mo"], [END]],
    ids=["a chunk", "a byte of a length", "a length", "half a chunk", "the mark"],
)
@pytest.mark.parametrize("was_read", [False, True], ids=["unread", "read"])
def test_it_is_quiet_between_two_whole_chunks_and_never_otherwise(context, records, was_read):
    with by_hand(context) as (end, far):
        reader = Reader(end)
        far.send(chunked(b"first"))
        reader.until(lambda: reader.data == b"first", "the first chunk")
        reader.read()
        assert end.is_quiet
        for record in records:
            far.send(record)
        wait_until(lambda: not end.is_quiet, what="it to arrive")
        if was_read:
            reader.read()
            assert end.is_quiet == (reader.data == b"firstmore")


def test_what_lies_decrypted_and_unread_is_not_quiet(context):
    with by_hand(context) as (end, far):
        far.send(chunked(b"0123456789"))
        wait_until(lambda: not end.is_quiet, what="it to arrive")
        assert end.try_read(bytearray(8)) == 4
        assert not end.is_quiet
        far.send(chunked(b"ab"))
        reader = Reader(end)
        reader.until(lambda: len(reader.data) == 8, "the rest")
        assert end.is_quiet
        # A whole chunk has been read, and another one of the same record has not.
        far.send(chunked(b"0123") + chunked(b"4567"))
        wait_until(lambda: not end.is_quiet, what="it to arrive")
        assert end.try_read(bytearray(8)) == 4
        assert not end.is_quiet


def test_ten_megabytes_go_either_way_at_once_and_both_ends_are_seen(context):
    chain = Chain(context)
    writers = [gevent.spawn(send_and_finish, sock, BULK) for sock in (chain.visitor, chain.upstream)]
    readers = [gevent.spawn(digest_to_end, sock) for sock in (chain.upstream, chain.visitor)]
    with at_most(CAP, "ten megabytes both ways"):
        assert [reader.get() for reader in readers] == [DIGEST, DIGEST]
    gevent.joinall(writers)
    assert chain.ended() == {"server": "closed", "client": "closed"}
    assert (chain.server.from_a, chain.server.from_b) == (len(BULK), len(BULK))


@pytest.mark.parametrize("first", ["visitor", "upstream"])
def test_one_direction_ends_and_the_other_goes_on(context, first):
    chain = Chain(context)
    one, other = (chain.visitor, chain.upstream) if first == "visitor" else (chain.upstream, chain.visitor)
    send_and_finish(one, b"question")
    assert read_to_end(other) == b"question"
    writer = gevent.spawn(send_and_finish, other, BULK)
    assert digest_to_end(one) == DIGEST
    writer.get()
    assert chain.ended() == {"server": "closed", "client": "closed"}


def test_a_reader_that_stops_holds_the_writer_back(context):
    chain = Chain(context, bufsize=65536)
    writer = gevent.spawn(send_and_finish, chain.upstream, BULK * 4)
    wait_until(lambda: chain.client.from_b > 0, what="the stream has begun")
    wait_until(lambda: chain.server._a.backlog and chain.client._a.backlog, what="neither can write any more")
    # As long as anything moved, the hub would have something to do.
    gevent.idle()
    assert chain.client.from_b < len(BULK) * 4
    assert not writer.dead
    chain.visitor.shutdown(socket.SHUT_WR)
    assert digest_to_end(chain.visitor) == hashlib.sha256(BULK * 4).digest()
    writer.get()
    assert chain.ended() == {"server": "closed", "client": "closed"}


@pytest.mark.parametrize("how", [closing.close, closing.reset], ids=["FIN", "RST"])
def test_a_connection_that_is_cut_without_its_mark_is_a_reset(context, how):
    """Whoever sits in between can send a FIN, and must not make half a download look like a whole one."""
    chain = Chain(context)
    chain.upstream.sendall(b"half of")
    assert read_exactly(chain.visitor, 7) == b"half of"
    chain.client.abort("stopped") if how is closing.reset else socket.socket.shutdown(chain.client_sock, socket.SHUT_WR)
    assert is_reset(chain.visitor)
    assert chain.ended()["server"] == "client reset"


@pytest.mark.parametrize("side", ["visitor", "upstream"])
def test_a_reset_goes_through_as_a_reset(context, side):
    chain = Chain(context)
    one, other = (chain.visitor, chain.upstream) if side == "visitor" else (chain.upstream, chain.visitor)
    one.sendall(b"x")
    assert read_exactly(other, 1) == b"x"
    closing.reset(one)
    assert is_reset(other)
    chain.ended()


def test_what_comes_in_pieces_is_put_together(context):
    with by_hand(context) as (end, far):
        reader = Reader(end)
        for byte in chunked(b"piece by piece") + END:
            far.send(bytes([byte]))
        reader.until(lambda: reader.ended, "the end")
        assert reader.data == b"piece by piece"


def test_the_mark_in_the_last_record_is_told_without_another_event(context):
    with by_hand(context) as (end, far):
        far.send(chunked(b"all") + END)
        reader = Reader(end)
        reader.until(lambda: reader.data, "the data")
        assert reader.data == b"all"
        assert end.has_pending
        assert end.try_read(bytearray(10)) == 0
        assert not end.has_pending


def test_a_buffer_below_a_record_leaves_something_pending(context):
    with by_hand(context) as (end, far):
        far.send(chunked(bytes(1000)))
        buffer, got = bytearray(104), 0
        with at_most(CAP, "the rest"):
            while not got:
                try:
                    got = end.try_read(buffer)
                except BlockingIOError:
                    gevent.sleep(0.001)
        assert end.has_pending
        while end.has_pending:
            got += end.try_read(buffer)
        assert got == 1000


def test_several_records_are_read_at_once(context):
    # Eight records are all of the buffer that a connection begins with: they would not have arrived together.
    with by_hand(context, bufsize=256 * 1024) as (end, far):
        for _ in range(8):
            far.send(chunked(bytes(16380)))
        wait_until_arrived(far)
        assert end.try_read(bytearray(256 * 1024)) == 8 * 16380


def test_a_record_of_many_chunks_is_read_by_itself(context):
    """A thousand chunks of one byte take as long to put together as megabytes in one: others have their turn."""
    with by_hand(context) as (end, far):
        record = (chunked(b"x") * 4096)[:16384]
        for _ in range(4):
            far.send(record)
        wait_until_arrived(far)
        assert 3000 < end.try_read(bytearray(256 * 1024)) < 4000
        far.send(chunked(bytes(16380)))


def test_a_message_in_records_of_one_byte_gives_others_their_turn(context):
    near, far = tls_pair(context)
    channel = server_channel(near, "the client")
    data = b"LTP/0.3" + frame({"control": {"name": "demo", "client": "c", "instance": "i"}})
    for byte in data:
        far.send(bytes([byte]))
    wait_until_arrived(far)
    message, looks = None, 0
    while message is None:
        message = channel.receive_ready()
        looks += 1
    assert message.name == "demo"
    assert looks >= len(data) // READS_AT_A_TIME
    channel.close()
    far.close()


@pytest.mark.parametrize("behind", [chunked(b"more"), END, b"\0"])
def test_bytes_behind_the_mark_in_one_record_are_a_reset(context, behind):
    with by_hand(context) as (end, far):
        far.send(chunked(b"all") + END + behind)
        reader = Reader(end)
        reader.until(lambda: reader.error, "the error")
        assert isinstance(reader.error, ConnectionResetError)


def test_a_chunk_without_room_is_kept_and_sent_as_it_was(context):
    """OpenSSL has begun to send it; the same bytes have to come again, in whatever company."""
    with by_hand(context, bufsize=16384) as (end, far):
        sent = fill(end)
        got, stream = bytearray(), Unchunker()

        def drain():
            try:
                got.extend(stream.feed(far.recv(65536)))
            except BlockingIOError:
                gevent.sleep(0.001)

        # More has been added to what the end could not take.
        rest = PATTERN[sent % 256 :] + PATTERN * 200
        with at_most(CAP, "the rest"):
            while rest:
                drain()
                with contextlib.suppress(BlockingIOError):
                    rest = rest[end.try_write(rest) :]
            end.shutdown_write()
            while not stream.ended:
                drain()
        assert got == PATTERN * (len(got) // 256)


PATTERN = bytes(range(256))


def fill(end):
    """Write until there is no room; return how many bytes were taken."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            # Each piece begins where the pattern is.
            sent += end.try_write((PATTERN * 300)[sent % 256 :][: 65536 - sent % 256])
    return sent


class Full:
    """A socket that has no room until ``room`` is set."""

    def __init__(self, sock):
        self._sock = sock
        self.room = False

    def send(self, data):
        if not self.room:
            raise BlockingIOError
        return self._sock.send(data)

    def __getattr__(self, name):
        return getattr(self._sock, name)


def test_the_mark_waits_for_room_and_closing_waits_for_the_mark(context):
    near, far = tls_pair(context)
    end = end_of(near, "peer")
    assert end.try_write(b"last words") == 10
    end.sock = Full(near)
    end.shutdown_write()
    end.close()
    reader = Reader(end_of(far, "peer"))
    reader.until(lambda: reader.data, "the data")
    assert near.fileno() >= 0
    end.sock.room = True
    reader.until(lambda: reader.ended, "the end")
    wait_until(lambda: near.fileno() < 0, what="the connection is closed")
    reader.end.close()


def test_closing_does_not_wait_for_ever(context, monkeypatch):
    monkeypatch.setattr(closing, "TOTAL", 0.05)
    near, far = tls_pair(context)
    with far:
        end = end_of(near, "peer")
        end.sock = Full(near)
        end.close()
        wait_until(lambda: near.fileno() < 0, what="the connection is closed")


def test_where_a_chunk_was_cut_short_there_is_no_mark(context):
    near, far = tls_pair(context, bufsize=16384)
    end = end_of(near, "peer")
    fill(end)
    end.close()
    reader = Reader(end_of(far, "peer"))
    reader.until(lambda: reader.error, "the error")
    assert not reader.ended
    reader.end.close()


def test_close_leaves_a_mark_behind_everything(context):
    near, far = tls_pair(context)
    end = end_of(near, "peer")
    assert end.try_write(b"last words") == 10
    end.close()
    reader = Reader(end_of(far, "peer"))
    reader.until(lambda: reader.ended, "the end")
    assert reader.data == b"last words"
    reader.end.close()


def test_a_reset_leaves_none(context):
    near, far = tls_pair(context)
    end_of(near, "peer").reset()
    reader = Reader(end_of(far, "peer"))
    reader.until(lambda: reader.error, "the reset")
    assert not reader.ended
    reader.end.close()


# Connections that go on behind their stream.


@contextlib.contextmanager
def going_on(context):
    """As ``by_hand``, of a connection on which messages may follow the stream."""
    near, far = tls_pair(context)
    stream, _ = begin_stream(near, b"")
    end = stream_end(SocketEnd(near, "peer"), stream, goes_on=True)
    try:
        yield end, far
    finally:
        end.reset()
        far.close()


def all_of(sock, size):
    """Return the next ``size`` bytes of a TLS connection that does not block."""
    data = b""
    with at_most(CAP, f"{size} bytes"):
        while len(data) < size:
            try:
                data += sock.recv(size - len(data))
            except BlockingIOError:
                gevent.sleep(0.001)
    return data


def test_it_parts_with_the_mark_and_a_message_in_one_record(context):
    with going_on(context) as (end, far):
        assert end.goes_on
        end.try_write(b"last words")
        assert end.written == 10
        assert end.part(b"message")
        assert all_of(far, 4 + 10 + 4 + 7) == chunked(b"last words") + END + b"message"
        # A second mark would be the beginning of a frame.
        end.shutdown_write()
        assert end.part(b"again")
        assert all_of(far, 5) == b"again"
        assert end.sock.fileno() >= 0


def test_a_mark_that_was_sent_before_is_not_sent_again(context):
    with going_on(context) as (end, far):
        end.shutdown_write()
        assert end.part(b"message")
        assert all_of(far, 4 + 7) == END + b"message"


@pytest.mark.parametrize("behind", [b"", b"m", b"message", END, chunked(b"more")])
def test_what_came_behind_the_peers_mark_is_handed_out_once_ours_was_sent(context, behind):
    with going_on(context) as (end, far):
        end.shutdown_write()
        far.send(chunked(b"all") + END + behind)
        reader = Reader(end)
        reader.until(lambda: reader.ended, "the end")
        assert reader.data == b"all"
        assert end.rest == behind


@pytest.mark.parametrize("behind", [b"m", END, chunked(b"more")])
def test_before_our_mark_nothing_may_come_behind_the_peers(context, behind):
    with going_on(context) as (end, far):
        far.send(chunked(b"all") + END + behind)
        reader = Reader(end)
        reader.until(lambda: reader.error, "the error")
        assert isinstance(reader.error, ConnectionResetError)
        assert not reader.ended


def test_what_came_with_the_beginning_may_end_the_stream_and_no_more(context):
    near, far = tls_pair(context)
    with near, far:
        stream, content = begin_stream(near, chunked(b"all") + END)
        assert (content, stream.ended) == (b"all", True)
        with pytest.raises(FrameError):
            begin_stream(near, chunked(b"all") + END + b"m")


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_end_goes_on_if_it_may_and_nothing_waits_to_be_sent(context, goes_on):
    near, far = tls_pair(context, bufsize=16384)
    stream, _ = begin_stream(near, b"")
    end = stream_end(SocketEnd(near, "peer"), stream, written=5, goes_on=goes_on)
    with far:
        assert end.goes_on is goes_on
        assert end.unlimited() is end
        sent = fill(end)
        # The chunk that had no room is no message's to follow.
        assert not end.goes_on
        assert end.written == 5 + sent
        end.reset()


def test_a_mark_that_waits_for_room_goes_on_to_nothing(context):
    with going_on(context) as (end, far):
        sock, end.sock = end.sock, Full(end.sock)
        end.shutdown_write()
        assert not end.goes_on
        end.sock.room = True
        assert all_of(far, 4) == END
        assert end.goes_on
        end.sock = sock


def test_a_plain_connection_has_no_chunks():
    near, far = pair()
    with near, far:
        assert begin_stream(near, b"rest") == (None, b"rest")
        assert to_stream(near, b"data") == b"data"
        end = SocketEnd(near, "peer")
        assert stream_end(end, None) is end


def test_what_came_before_the_stream_was_taken_over_is_in_chunks_as_well(context):
    near, far = tls_pair(context)
    with near, far:
        stream, brought = begin_stream(near, chunked(b"early") + b"\0\0")
        assert brought == b"early"
        assert not stream.ended
        end = TlsEnd(near, "peer", None, begin_stream(near, chunked(b"x") + END)[0])
        assert end.has_pending
        assert to_stream(near, b"early") == chunked(b"early")
        with pytest.raises(FrameError):
            begin_stream(near, END + b"x")
