"""localtunnel.protocol.wire.stream: chunks with an end of their own, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import FrameError
from localtunnel.protocol.wire.stream import END, LENGTH_SIZE, MAX_CHUNK, RECORD_SIZE, Unchunker, chunked

CASES = [b"", b"a", b"visitor's bytes" * 9, bytes(MAX_CHUNK), bytes(MAX_CHUNK + 1), bytes(3 * MAX_CHUNK)]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("data", CASES, ids=len)
@pytest.mark.parametrize("size", [1, 3, 4, 5, RECORD_SIZE, 1 << 20])
def test_what_was_chunked_comes_back_however_it_is_cut(data, size):
    if size < 10 and len(data) > MAX_CHUNK:
        size *= 1001
    stream = Unchunker()
    assert b"".join(stream.feed(piece) for piece in in_pieces(chunked(data), size)) == data
    assert not stream.ended
    assert stream.feed(END) == b""
    assert stream.ended


def test_a_chunk_of_ours_fills_a_record():
    assert len(chunked(bytes(MAX_CHUNK))) == RECORD_SIZE
    assert [len(piece) for piece in in_pieces(chunked(bytes(2 * MAX_CHUNK)), RECORD_SIZE)] == [RECORD_SIZE] * 2


def test_no_data_is_no_chunk_for_an_empty_one_is_the_end():
    assert chunked(b"") == b""


@pytest.mark.parametrize("trailing", [b"x", END, chunked(b"more")])
@pytest.mark.parametrize("together", [True, False])
def test_nothing_may_come_behind_the_end(trailing, together):
    stream = Unchunker()
    with pytest.raises(FrameError, match="behind its end"):
        if together:
            stream.feed(chunked(b"all") + END + trailing)
        else:
            assert stream.feed(chunked(b"all") + END) == b"all"
            stream.feed(trailing)


def test_a_chunk_may_have_any_length():
    stream = Unchunker()
    assert stream.feed(b"\xff\xff\xff\xff" + b"abc") == b"abc"
    assert stream.feed(b"d" * 100_000) == b"d" * 100_000


def test_it_looks_at_no_byte_behind_the_ones_that_came():
    view = memoryview(bytearray(chunked(b"abc") + b"what a buffer had before"))
    stream = Unchunker()
    assert stream.compact(view[:], 2) == 0
    assert stream.compact(view[2:], 3) == 1
    assert view[2:3] == b"a"


def test_it_works_in_place():
    data = bytearray(chunked(b"one") + chunked(b"two") + b"\0\0")
    size = Unchunker().compact(memoryview(data), len(data))
    assert data[:size] == b"onetwo"


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_any_chunks_cut_anywhere(pieces, data):
    whole = b"".join(len(piece).to_bytes(LENGTH_SIZE, "big") + piece for piece in pieces) + END
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream, got = Unchunker(), b""
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        got += stream.feed(whole[start:stop])
    assert got == b"".join(pieces)
    assert stream.ended


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=4), st.binary(max_size=50), st.data())
def test_where_the_connection_goes_on_the_rest_is_exactly_what_follows(pieces, behind, data):
    content = b"".join(len(piece).to_bytes(LENGTH_SIZE, "big") + piece for piece in pieces)
    whole = content + END + behind
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream, got = Unchunker(), b""
    stream.goes_on = True
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        got += stream.feed(whole[start:stop])
        assert stream.ended == (stop >= len(content) + LENGTH_SIZE)
        assert stream.rest == whole[len(content) + LENGTH_SIZE : stop]
    assert got == b"".join(pieces)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=3), st.binary(min_size=1, max_size=20))
def test_byte_by_byte_it_ends_with_its_mark_and_not_a_byte_later(pieces, behind):
    whole = b"".join(len(piece).to_bytes(LENGTH_SIZE, "big") + piece for piece in pieces) + END
    goes_on, ends = Unchunker(), Unchunker()
    goes_on.goes_on = True
    for place, byte in enumerate(whole, 1):
        assert goes_on.feed(bytes([byte])) == ends.feed(bytes([byte]))
        assert goes_on.ended == ends.ended == (place == len(whole))
        assert goes_on.rest == b""
    for place, byte in enumerate(behind, 1):
        # What would be a chunk of the stream that has ended is none.
        assert goes_on.feed(bytes([byte])) == b""
        assert goes_on.rest == behind[:place]
        with pytest.raises(FrameError, match="behind its end"):
            ends.feed(bytes([byte]))
    assert ends.rest == b""


@pytest.mark.parametrize("behind", [END, chunked(b"more"), END + chunked(b"more") + END, b"\0"])
def test_what_looks_like_a_stream_behind_the_end_is_none_of_it(behind):
    stream = Unchunker()
    stream.goes_on = True
    assert stream.feed(chunked(b"all") + END + behind) == b"all"
    assert stream.rest == behind
    assert not stream.is_between_chunks


@given(st.binary(max_size=200))
def test_whatever_comes_it_never_gives_more_than_it_got(noise):
    stream = Unchunker()
    try:
        assert len(stream.feed(noise)) <= len(noise)
    except FrameError:
        assert stream.ended


@pytest.mark.parametrize("size", range(1, len(chunked(b"hello"))))
def test_it_is_between_chunks_where_a_whole_one_has_come(size):
    data = chunked(b"hello")
    stream = Unchunker()
    assert stream.is_between_chunks
    stream.feed(data[:size])
    assert not stream.is_between_chunks
    stream.feed(data[size:])
    assert stream.is_between_chunks
    stream.feed(END)
    assert not stream.is_between_chunks
