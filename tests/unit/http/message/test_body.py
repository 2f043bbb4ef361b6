"""localtunnel.http.message.body: where a body ends, in every cut. The bodies of the
corpus are tried with their heads.
"""

import re

import pytest
from harness.messages import cut, ends_the_same, mangled, scan, single_bytes
from hypothesis import example, given, settings
from hypothesis import strategies as st

from localtunnel.errors import BadRequest, UpstreamInvalid, VisitorError
from localtunnel.http.message.body import (
    MAX_CHUNK_EXTENSION,
    MAX_TRAILER,
    NO_BODY,
    UNTIL_CLOSE,
    Chunked,
    Counted,
)
from localtunnel.http.message.refusal import REQUEST, RESPONSE, Kind


def outcome(pieces: list[bytes], kind: Kind = REQUEST) -> tuple[int, bool] | str:
    """Feed a chunked body; return how many bytes belong to it and whether it is done, or the error's code."""
    body = Chunked(kind)
    try:
        return scan(body, pieces), body.done
    except VisitorError as error:
        return error.code


def test_counted() -> None:
    body = Counted(5)
    assert (body.done, body.until_close, body.remaining) == (False, False, 5)
    assert body.feed(b"abc") == 3
    assert (body.done, body.remaining) == (False, 2)
    assert body.feed(memoryview(b"defg")) == 2
    assert (body.done, body.remaining) == (True, 0)
    assert body.feed(b"h") == 0


def test_counted_ends_with_the_last_byte_and_not_with_the_next() -> None:
    body = Counted(5)
    assert body.feed(b"abcde") == 5
    assert body.done


def test_counted_nothing() -> None:
    assert Counted(0).done
    assert Counted(0).feed(b"a") == 0


def test_no_body() -> None:
    assert NO_BODY.done
    assert not NO_BODY.until_close
    assert NO_BODY.feed(b"a") == 0


@given(st.lists(st.binary(min_size=1, max_size=40)), st.sampled_from([b"", b"X-Sum: 1\r\n"]), st.data())
def test_what_chunks_hold_is_taken_out_in_every_cut(chunks: list[bytes], trailer: bytes, drawn: st.DataObject) -> None:
    data = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"00\r\n" + trailer + b"\r\n"
    places = drawn.draw(st.lists(st.integers(0, len(data))))
    body, found = Chunked(RESPONSE), b""
    for piece in cut(data + b"rest", places):
        if body.done:
            break
        taken: list[bytes | memoryview] = []
        body.feed(memoryview(piece), taken)
        found += b"".join(taken)
    assert body.done
    assert found == b"".join(chunks)


def test_until_close() -> None:
    assert UNTIL_CLOSE.until_close
    assert not UNTIL_CLOSE.done
    assert UNTIL_CLOSE.feed(b"0\r\n\r\n") == 5
    assert not UNTIL_CLOSE.done


def test_a_chunk_says_how_much_of_it_is_left() -> None:
    body = Chunked(RESPONSE)
    assert body.feed(b"1000\r\nabc") == 9
    assert body.remaining == 0x1000 - 3
    assert body.feed(bytes(0x1000 - 4)) == 0x1000 - 4
    assert body.remaining == 1
    assert body.feed(b"x\r\n0\r\n\r\nHTTP") == 8
    assert (body.done, body.remaining) == (True, 0)
    assert body.feed(b"HTTP") == 0


@pytest.mark.parametrize("size", [1, 9, 255, 256, 65535, 1 << 20])
def test_chunks_of_every_size(size: int) -> None:
    data = b"%x\r\n%b\r\n%X\r\n%b\r\n0\r\n\r\n" % (size, bytes(size), size, bytes(size))
    for length in (1, 3, 7, 4096, len(data)):
        if len(data) // length < 10_000:
            pieces = [data[at : at + length] for at in range(0, len(data), length)]
            assert outcome(pieces) == (len(data), True)


def test_an_extension_of_a_response_may_have_as_many_bytes_as_allowed_and_no_more() -> None:
    longest = b";" + b"a" * (MAX_CHUNK_EXTENSION - 1)
    for size in (b"5", b"000000000000005"):
        data = size + longest + b"\r\nhello\r\n0" + longest + b"\r\n\r\n"
        assert outcome([data], RESPONSE) == outcome(single_bytes(data), RESPONSE) == (len(data), True)
        data = size + longest + b"a\r\nhello\r\n0\r\n\r\n"
        assert outcome([data], RESPONSE) == outcome(single_bytes(data), RESPONSE) == "upstream_invalid"


@pytest.mark.parametrize("begun", [b"5;", b"1\r\na\r\n0;", b"000000000000005;"])
def test_a_request_has_no_extension_and_is_refused_at_the_first_byte_of_one(begun: bytes) -> None:
    assert outcome([begun[:-1]]) == (len(begun) - 1, False)
    assert outcome([begun]) == outcome(single_bytes(begun)) == "bad_request"
    assert outcome([begun], RESPONSE) == (len(begun), False)


@pytest.mark.parametrize("space", [b" ", b"\t"])
@pytest.mark.parametrize("line", [b"5%b\r\n", b"%b5\r\n", b"5%b;a\r\n", b"5;%ba\r\n", b"5;a%b\r\n", b"5;a=%bb\r\n"])
@pytest.mark.parametrize("kind", [REQUEST, RESPONSE], ids=["request", "response"])
def test_no_size_line_has_white_space(kind: Kind, line: bytes, space: bytes) -> None:
    for before in (b"", b"1\r\na\r\n"):
        data = before + line % space + b"hello\r\n0\r\n\r\n"
        assert outcome([data], kind) == outcome(single_bytes(data), kind) == kind.error.code


@pytest.mark.parametrize(
    ("data", "is_plain"),
    [
        (b"1\r\na\r\n0\r\n\r\n", True),
        (b"1;\r\na\r\n0\r\n\r\n", False),
        (b"1\r\na\r\n1;x\r\na\r\n0\r\n\r\n", False),
        (b"1\r\na\r\n0;x\r\n\r\n", False),
        (b"0\r\nX: y\r\n\r\n", False),
    ],
    ids=["plain", "an empty extension", "of the second", "of the last", "a trailer field"],
)
def test_it_is_plain_while_there_is_neither_an_extension_nor_a_trailer_field(data: bytes, is_plain: bool) -> None:
    for pieces in ([data], single_bytes(data)):
        body = Chunked(RESPONSE)
        assert scan(body, pieces) == len(data)
        assert body.is_plain == is_plain


def test_a_trailer_may_have_as_many_bytes_as_allowed_and_no_more() -> None:
    largest = b"X: %b\r\n\r\n" % (b"a" * (MAX_TRAILER - len(b"X: \r\n\r\n")))
    for data in (b"0\r\n" + largest, b"0\r\n" + largest + b"more"):
        assert outcome([data]) == outcome(single_bytes(data)) == (3 + MAX_TRAILER, True)
    data = b"0\r\nX" + largest
    assert outcome([data]) == outcome(single_bytes(data)) == "bad_request"


@pytest.mark.parametrize(
    "begun",
    [
        *(
            b"0x",
            b" ",
            b"\n",
            b"\r",
            b"\0",
            b"g",
            b"-",
            b"+",
            b";",
            b"5\n",
            b"5 ",
            b"5\r\r",
            b"5;",
        ),
        *(b"0" * 16, b"1\r\na\n", b"1\r\naX", b"1\r\na\rX", b"1\r\na\r\n\r", b"1\r\na\r\n;"),
        *(b"0\r\n\n", b"0\r\n\rX", b"0\r\nX: y\n", b"0\r\nX: y\r\n\n"),
    ],
)
def test_what_can_be_no_body_is_refused_at_its_first_wrong_byte(begun: bytes) -> None:
    """Not at the end of a line that may never come: what a scanner has let pass has gone to the upstream."""
    assert outcome([begun[:-1]]) == (len(begun) - 1, False)
    assert outcome([begun]) == outcome(single_bytes(begun)) == "bad_request"


@pytest.mark.parametrize("begun", [b"5;\n", b"5;\0", b"5;\rX", b"5; "])
def test_what_can_be_no_extension_is_refused_at_its_first_wrong_byte(begun: bytes) -> None:
    assert outcome([begun[:-1]], RESPONSE) == (len(begun) - 1, False)
    assert outcome([begun], RESPONSE) == outcome(single_bytes(begun), RESPONSE) == "upstream_invalid"


def test_the_error_is_that_of_the_message() -> None:
    with pytest.raises(BadRequest, match="the request's body"):
        Chunked(REQUEST).feed(b"x")
    with pytest.raises(UpstreamInvalid, match="the response's body"):
        Chunked(RESPONSE).feed(b"x")


def test_a_trailer_may_carry_anything_that_belongs_there() -> None:
    data = b"0\r\nGrpc-Status: 0\r\nDigest: x\r\nServer-Timing: a\r\nX-For: 1\r\n\r\n"
    assert outcome([data]) == (len(data), True)


@pytest.mark.parametrize(
    "name", [b"Host", b"TRANSFER-ENCODING", b"content_length", b"X-Forwarded-Host", b"X_Real_IP", b"Set.Cookie"]
)
def test_a_trailer_may_not_carry_what_the_head_was_checked_for(name: bytes) -> None:
    data = b"0\r\nX: y\r\n%b: z\r\n\r\n" % name
    assert outcome([data]) == outcome(single_bytes(data)) == "bad_request"


@pytest.mark.timeout(20)
def test_bytes_that_arrive_one_by_one_cost_linear_work() -> None:
    """A scanner that looked at a trailer from its start each time, or kept chunks, would take minutes."""
    body = Chunked(REQUEST)
    data = b"200000\r\n" + bytes(0x200000) + b"\r\n0\r\nX: " + b"a" * (MAX_TRAILER - 7) + b"\r\n\r\n"
    view = memoryview(data)
    assert sum(body.feed(view[at : at + 1]) for at in range(len(data))) == len(data)
    assert body.done


def test_a_view_that_lies_in_one_chunk_is_not_looked_at() -> None:
    """Twelve petabytes in bytes would take hours to scan; a length is all that is asked of the view."""

    class Huge:
        def __len__(self) -> int:
            return 1 << 50

    body = Chunked(REQUEST)
    body.feed(b"ffffffffffffff\r\n")
    for _ in range(12):
        assert body.feed(Huge()) == 1 << 50


@st.composite
def chunked_bodies(draw: st.DrawFn, *, extended: bool = False) -> bytes:
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    extensions = st.sampled_from([b"", b"", b";a", b';a="b;c"'] if extended else [b""])
    lines = [b"%x%b\r\n%b\r\n" % (len(chunk), draw(extensions), chunk) for chunk in chunks]
    trailer = draw(st.sampled_from([b"", b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"]))
    return b"".join(lines) + b"0" + draw(extensions) + b"\r\n" + trailer + b"\r\n"


cuts = st.lists(st.integers(0, 300))


@settings(max_examples=300)
@given(chunked_bodies(), chunked_bodies(extended=True), st.binary(max_size=20), cuts)
def test_a_valid_body_ends_at_the_same_byte_however_it_is_cut(
    sent: bytes, answered: bytes, trailing: bytes, cuts: list[int]
) -> None:
    for data, kind in ((sent, REQUEST), (answered, RESPONSE)):
        stream = data + trailing
        assert ends_the_same(lambda pieces, kind=kind: outcome(pieces, kind), stream, cuts) == (len(data), True)


PIECES = [b"\r\n", b"\r", b"\n", b"0", b"1", b"a", b"5;", b" ", b"\0", b"X: y\r\n", b"Host: a\r\n", b"0\r\n\r\n", b"0x"]
mangled_bodies = mangled(chunked_bodies() | chunked_bodies(extended=True), PIECES)


TRAILER = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n")
"""Fields whose names are tokens (RFC 9110, sections 5.1 and 5.6.2), and an empty line."""


def read_by_the_book(data: bytes, kind: Kind) -> int | None:
    """A second reader, of a few lines: the length of the whole chunked body that ``data`` begins with, or None."""
    extension = rb"(;[\x21-\x7e\x80-\xff]{0,255})?" if kind is RESPONSE else rb""
    position = 0
    while line := re.compile(rb"([0-9A-Fa-f]{1,15})" + extension + rb"\r\n").match(data, position):
        size = int(line[1], 16)
        position = line.end() + size
        if size == 0:
            trailer = TRAILER.match(data, position)
            names = {field.partition(b":")[0].lower() for field in trailer[0].split(b"\r\n")} if trailer else set()
            return trailer.end() if trailer and names.isdisjoint({b"host", b"te"}) else None
        if data[position : position + 2] != b"\r\n":
            return None
        position += 2
    return None


@settings(max_examples=500)
@example(b'0\r\n"X: y\r\n\r\n', [])
@example(b"0\r\nTE: y\r\n\r\n", [4])
@given(mangled_bodies | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), cuts)
def test_any_bytes_end_in_the_same_way_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    for kind in (REQUEST, RESPONSE):
        whole = ends_the_same(lambda pieces, kind=kind: outcome(pieces, kind), data, cuts)
        found = whole[0] if isinstance(whole, tuple) and whole[1] else None
        assert found == read_by_the_book(data, kind)
