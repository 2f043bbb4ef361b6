"""localtunnel.http.message.request: every request of the corpus in every cut, the
limits, and whatever hypothesis thinks of.
"""

import re

import pytest
from harness.messages import (
    Message,
    ends_the_same,
    head_of,
    mangled,
    messages,
    parameters,
    plain,
    scan,
    single_bytes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from localtunnel.errors import BadRequest, NoHost, VisitorError
from localtunnel.http.message.refusal import shown
from localtunnel.http.message.request import HeadReader, RequestHead, parse_head, read_head
from localtunnel.protocol import limits

VALID = messages("valid/requests")
INVALID = messages("invalid/requests")
INVALID_HEADS = [message for message in INVALID if not message.fails_in_body]
INVALID_BODIES = [message for message in INVALID if message.fails_in_body]
TRAILING = [b"\r\n", b"\x16\x03\x01", b"\n\n", b"body" * 50_000, b"GET /next HTTP/1.1\r\nHost: other.localhost\r\n\r\n"]
PLAIN = b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n"


def outcome(chunks: list[bytes], max_bytes: int = limits.MAX_HEAD_BYTES) -> RequestHead | str | None:
    return head_of(HeadReader(max_bytes), chunks)


def head_with(*lines: str, start: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([start, "Host: demo.localhost", *lines, "", ""]).encode("latin-1")


def padded(size: int) -> bytes:
    """A valid head of exactly ``size`` bytes."""
    return head_with("X-Padding: " + "a" * (size - len(head_with("X-Padding: "))))


@parameters(VALID)
def test_valid_heads_are_understood(message: Message) -> None:
    reader = HeadReader()
    head = reader.feed(message.data)
    expected = message.head_as_expected()
    assert plain(head, expected) == expected
    assert reader.rest == message.data[head.size :]
    assert head.line + b"".join(line for _, _, line in head.fields) + b"\r\n" == message.head.removeprefix(b"\r\n")


@parameters(VALID)
def test_valid_heads_byte_by_byte(message: Message) -> None:
    reader = HeadReader()
    heads = [reader.feed(byte) for byte in single_bytes(message.head)]
    assert heads == [None] * (len(message.head) - 1) + [HeadReader().feed(message.data)]
    assert reader.data == message.head
    assert reader.rest == b""


@parameters(VALID)
@pytest.mark.parametrize("back", [1, 2, 3, 4, 5])
def test_valid_heads_cut_near_the_blank_line(message: Message, back: int) -> None:
    assert outcome([message.head[:-back], message.head[-back:]]) == outcome([message.head])


@parameters(VALID)
@pytest.mark.parametrize("trailing", TRAILING, ids=range(len(TRAILING)))
def test_what_follows_a_head_is_kept_and_not_read(message: Message, trailing: bytes) -> None:
    reader = HeadReader()
    head = reader.feed(message.head + trailing)
    assert head == HeadReader().feed(message.data)
    assert reader.data == message.head + trailing
    assert reader.rest == trailing


@parameters(VALID)
@pytest.mark.parametrize("trailing", [b"", *TRAILING], ids=range(len(TRAILING) + 1))
def test_valid_bodies_end_where_they_end(message: Message, trailing: bytes) -> None:
    head = parse_head(message.head)
    rest = message.data[head.size :] + trailing
    for pieces in ([rest], [memoryview(rest)], single_bytes(rest[: message.body_size + 10])):
        body = head.body()
        assert scan(body, pieces) == message.body_size
        assert body.done
        assert not body.until_close


@parameters(VALID)
def test_no_body_is_done_before_its_last_byte(message: Message) -> None:
    body = parse_head(message.head).body()
    assert body.done == (message.body_size == 0)
    if message.body_size:
        assert scan(body, [message.data[len(message.head) : -1]]) == message.body_size - 1
        assert not body.done


@pytest.mark.parametrize("before", [0, 7])
def test_requests_that_follow_each_other_in_one_buffer(before: int) -> None:
    stream = b"".join(message.data for message in VALID)
    buffer = bytearray(before) + stream + b"\r\n\r\n"
    start, end = before, before + len(stream)
    for message in VALID:
        head = read_head(buffer, start, end)
        assert head == parse_head(message.head)
        start += head.size
        start += head.body().feed(memoryview(buffer)[start:end])
    assert start == end
    assert read_head(buffer, start, end) is None


def test_a_head_in_a_buffer_ends_with_what_was_received() -> None:
    buffer = bytearray(PLAIN)
    assert read_head(buffer, 0, len(PLAIN) - 1) is None
    assert read_head(buffer, 0, len(PLAIN), len(PLAIN)) == parse_head(PLAIN)
    with pytest.raises(BadRequest, match=f"larger than {len(PLAIN) - 1} bytes"):
        read_head(buffer, 0, len(PLAIN), len(PLAIN) - 1)
    with pytest.raises(BadRequest, match="an HTTP/2 preface arrived"):
        read_head(bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, 24)


def assert_sentence(error: VisitorError, expected: dict[str, str]) -> None:
    assert error.code == expected["error"]
    assert re.fullmatch(r'(?s)["A-Z].*\.', str(error)), "not a whole sentence"
    assert str(error).isprintable()
    assert len(str(error)) < 400


@parameters(INVALID_HEADS)
def test_invalid_heads_are_refused_and_the_sentence_says_why(message: Message) -> None:
    with pytest.raises(VisitorError, match=re.escape(message.expected["says"])) as caught:
        HeadReader().feed(message.data)
    assert_sentence(caught.value, message.expected)


@parameters(INVALID_HEADS)
def test_invalid_heads_byte_by_byte_and_with_trailing_data(message: Message) -> None:
    expected = message.expected["error"]
    assert outcome(single_bytes(message.data)) == expected
    assert [outcome([message.data + trailing]) for trailing in TRAILING] == [expected] * len(TRAILING)


@parameters(INVALID_BODIES)
def test_invalid_bodies_are_refused_in_every_cut(message: Message) -> None:
    reader = HeadReader()
    head = reader.feed(message.data)
    rest = reader.rest
    for pieces in ([rest], [memoryview(rest)], single_bytes(rest), *([rest + trailing] for trailing in TRAILING)):
        body = head.body()
        with pytest.raises(BadRequest, match=re.escape(message.expected["says"])) as caught:
            scan(body, pieces)
        assert_sentence(caught.value, message.expected)


@pytest.mark.parametrize("first", [b"\x16", b"PRI * HTTP/2", b"LTP/"])
def test_another_protocol_is_recognised_before_any_line_has_ended(first: bytes) -> None:
    reader = HeadReader()
    for byte in single_bytes(first[:-1]):
        assert reader.feed(byte) is None
    with pytest.raises(BadRequest):
        reader.feed(first[-1:])


@pytest.mark.parametrize("first", [b"", b"P", b"PRI * HTTP/", b"LTP", b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r"])
def test_more_is_asked_for(first: bytes) -> None:
    assert HeadReader().feed(first) is None


def test_bare_line_feeds_are_refused_at_once_though_no_blank_line_will_come() -> None:
    reader = HeadReader()
    assert reader.feed(b"GET / HTTP/1.1\nHost: a\n") is None
    with pytest.raises(BadRequest, match="on its own"):
        reader.feed(b"\n")


@pytest.mark.parametrize("split", [lambda data: [data], single_bytes], ids=["whole", "byte by byte"])
def test_a_head_may_have_as_many_bytes_as_allowed_and_no_more(split) -> None:
    largest = padded(limits.MAX_HEAD_BYTES)
    assert outcome(split(largest)).size == limits.MAX_HEAD_BYTES
    assert outcome(split(padded(limits.MAX_HEAD_BYTES + 1))) == "bad_request"


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    reader = HeadReader(1024)
    assert reader.feed(b"G" * 1023) is None
    with pytest.raises(BadRequest, match="larger than 1024 bytes"):
        reader.feed(b"G")


def test_the_limit_is_for_the_head_and_not_for_what_follows() -> None:
    assert outcome([padded(1024) + b"x" * 1_000_000], 1024).size == 1024


@pytest.mark.timeout(20)
def test_bytes_that_arrive_one_by_one_cost_linear_work() -> None:
    """Searching from the start each time would look at 2.2 TB here: hours."""
    size = 1 << 21
    assert outcome(single_bytes(padded(size)), size).size == size


@pytest.mark.parametrize("host", ["<script>", "a\x1b[2J", "a" * 5000, "\xff" * 100])
def test_a_sentence_never_carries_the_visitors_bytes_raw_or_at_length(host: str) -> None:
    with pytest.raises(VisitorError) as caught:
        HeadReader().feed(f"GET / HTTP/1.1\r\nHost: {host}@\r\nHost : {host}\r\n\r\n".encode("latin-1"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/meta/version?x=/y", "/meta/version"),
        ("//demo.localhost/x", "//demo.localhost/x"),
        ("http://demo.localhost/meta/version?x", "/meta/version"),
        ("http://demo.localhost?x=/y", "/"),
        ("http://demo.localhost", "/"),
    ],
)
def test_path(target: str, path: str) -> None:
    assert parse_head(head_with(start=f"GET {target} HTTP/1.1")).path == path


def test_path_of_the_asterisk_form() -> None:
    assert parse_head(head_with(start="OPTIONS * HTTP/1.1")).path == "*"


def test_a_head_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse_head(PLAIN).host = "other.localhost"


def test_a_missing_host_comes_after_what_makes_the_request_unreadable() -> None:
    with pytest.raises(BadRequest):
        parse_head(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    with pytest.raises(NoHost):
        parse_head(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a" * 80, '"' + "a" * 80 + '"'),
        (b"a" * 81, '"' + "a" * 80 + '…"'),
        (b"\x00\xff\r\n\\", r'"\x00\xff\r\n\\"'),
    ],
)
def test_shown(data: bytes, text: str) -> None:
    assert shown(data) == text


# Whatever arrives

ACCEPTED, REFUSED = ([message.data for message in found if len(message.data) < 1000] for found in (VALID, INVALID))
PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"\r\n\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"Host: a\r\n",
        b"Host:\r\n",
    ),
    *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n", b"GET / "),
    *(b"http://a/", b"\xff", b"[::1]", b"@", b"%", b"#", b"a", b"X: y\r\n"),
]


of_the_corpus = mangled(st.sampled_from(ACCEPTED) | st.sampled_from(REFUSED), PIECES)
hostile = st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | of_the_corpus


@settings(max_examples=400)
@given(hostile, st.lists(st.integers(0, 400)), st.integers(20, 300))
def test_any_bytes_end_in_the_same_way_however_they_are_cut(data: bytes, cuts: list[int], max_bytes: int) -> None:
    ends_the_same(lambda chunks: outcome(chunks, max_bytes), data, cuts)


@settings(max_examples=400)
@given(of_the_corpus)
def test_what_is_accepted_is_strict_http(data: bytes) -> None:
    """A second reader, of a few lines, agrees with every head that is accepted."""
    head = outcome([data])
    if not isinstance(head, RequestHead):
        return
    raw = data[: head.size].removeprefix(b"\r\n")
    assert head.size <= limits.MAX_HEAD_BYTES
    assert raw.find(b"\r\n\r\n") == len(raw) - 4
    line, *lines = raw[:-4].split(b"\r\n")
    assert line == f"{head.method} {head.target} HTTP/{head.version[0]}.{head.version[1]}".encode("latin-1")
    assert len(lines) <= limits.MAX_HEAD_FIELDS
    assert all(re.fullmatch(rb"[^\x00-\x20:\x7f-\xff]+:[^\x00-\x08\x0a-\x1f\x7f]*", field) for field in lines)
    names = [field.partition(b":")[0].lower() for field in lines]
    framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    assert names.count(b"host") == 1
    assert len(framing) <= 1
    assert not (framing == [b"transfer-encoding"] and head.version == (1, 0))
    assert head.host
    assert head.host == head.host.lower()
    assert head.port is None or 0 <= head.port <= 65535
