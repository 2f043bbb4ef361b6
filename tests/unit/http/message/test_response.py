"""localtunnel.http.message.response: every response of the corpus in every cut, and
interim responses before the final one.
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

from localtunnel.errors import UpstreamInvalid
from localtunnel.http.message.response import ResponseHead, ResponseReader, parse_response, read_response
from localtunnel.protocol import limits

VALID = messages("valid/responses")
INVALID = messages("invalid/responses")
INVALID_HEADS = [message for message in INVALID if not message.fails_in_body]
INVALID_BODIES = [message for message in INVALID if message.fails_in_body]
TRAILING = [b"\r\n", b"\n\n", b"\x81\x05hello", b"body" * 50_000, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


def outcome(chunks: list[bytes], max_bytes: int = limits.MAX_HEAD_BYTES) -> ResponseHead | str | None:
    return head_of(ResponseReader(max_bytes), chunks)


def method_of(message: Message) -> str:
    return message.expected.get("method", "GET")


@parameters(VALID)
def test_valid_heads_are_understood(message: Message) -> None:
    reader = ResponseReader()
    head = reader.feed(message.data)
    expected = message.head_as_expected()
    assert plain(head, expected) == expected
    assert reader.rest == message.data[head.size :]
    assert message.head.endswith(b"".join(line for _, _, line in head.fields) + b"\r\n")


@parameters(VALID)
def test_valid_heads_byte_by_byte(message: Message) -> None:
    reader = ResponseReader()
    heads = [reader.feed(byte) for byte in single_bytes(message.head)]
    assert heads == [None] * (len(message.head) - 1) + [parse_response(message.head)]
    assert reader.rest == b""


@parameters(VALID)
@pytest.mark.parametrize("trailing", TRAILING, ids=range(len(TRAILING)))
def test_what_follows_a_head_is_kept_and_not_read(message: Message, trailing: bytes) -> None:
    reader = ResponseReader()
    assert reader.feed(message.head + trailing) == parse_response(message.head)
    assert reader.rest == trailing


@parameters(VALID)
@pytest.mark.parametrize("trailing", [b"", *TRAILING], ids=range(len(TRAILING) + 1))
def test_valid_bodies_end_where_they_end(message: Message, trailing: bytes) -> None:
    head = parse_response(message.head)
    rest = message.data[head.size :] + trailing
    until_close = message.expected.get("until_close", False)
    for pieces in ([rest], [memoryview(rest)], single_bytes(rest[: message.body_size + 10])):
        body = head.body(method_of(message))
        assert scan(body, pieces) == (sum(map(len, pieces)) if until_close else message.body_size)
        assert body.until_close == until_close
        assert body.done != until_close


@parameters(VALID)
def test_the_answer_to_head_never_has_a_body(message: Message) -> None:
    body = parse_response(message.head).body("HEAD")
    assert body.done
    assert not body.until_close
    assert body.feed(b"HTTP/1.1 200 OK\r\n\r\n") == 0


@parameters(INVALID_HEADS)
def test_invalid_heads_are_refused_in_every_cut(message: Message) -> None:
    with pytest.raises(UpstreamInvalid, match=re.escape(message.expected["says"])) as caught:
        ResponseReader().feed(message.data)
    assert_sentence(caught.value, message.expected)
    cuts = [single_bytes(message.data), *([message.data + trailing] for trailing in TRAILING)]
    assert [outcome(pieces) for pieces in cuts] == ["upstream_invalid"] * len(cuts)


@parameters(INVALID_BODIES)
def test_invalid_bodies_are_refused_in_every_cut(message: Message) -> None:
    reader = ResponseReader()
    head = reader.feed(message.data)
    rest = reader.rest
    for pieces in ([rest], [memoryview(rest)], single_bytes(rest), *([rest + trailing] for trailing in TRAILING)):
        body = head.body("GET")
        with pytest.raises(UpstreamInvalid, match=re.escape(message.expected["says"])) as caught:
            scan(body, pieces)
        assert_sentence(caught.value, message.expected)


@pytest.mark.parametrize(
    ("received", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'begins with "SSH-2.0-OpenSSH_9.2"; it has to begin with HTTP/1.1'),
        (b"220 mail.example.com ESMTP\n", 'begins with "220 mail.example.com ESMTP"'),
        (b"<html>" * 20, 'begins with "<html>'),
        (b"\x15\x03\x01\x00\x02\x02\x46" + b"\x00" * 80, 'begins with "\\x15\\x03'),
    ],
)
def test_what_is_not_http_is_refused_by_its_first_line(received: bytes, says: str) -> None:
    """Its sender waits for the other side, and an empty line may never come."""
    for pieces in ([received], single_bytes(received)):
        reader = ResponseReader()
        with pytest.raises(UpstreamInvalid, match=re.escape(says)):
            for piece in pieces:
                assert reader.feed(piece) is None


@pytest.mark.parametrize(
    ("received", "code", "says"),
    [
        (b"", "upstream_closed", ""),
        (b"H", "upstream_invalid", 'ended before the empty line that ends its head; it begins with "H"'),
        (b"HTTP/1.1 200 OK", "upstream_invalid", 'it begins with "HTTP/1.1 200 OK"'),
        (b"HTTP/1.1 200 OK\r\nX-A: b\r\n", "upstream_invalid", 'it begins with "HTTP/1.1 200 OK"'),
        (b"oops \x1b[31m", "upstream_invalid", 'begins with "oops \\x1b[31m"; it has to begin with HTTP/1.1'),
        (b"\0" * 80, "upstream_invalid", 'begins with "\\x00'),
    ],
)
def test_what_the_end_within_a_head_means(received: bytes, code: str, says: str) -> None:
    reader = ResponseReader()
    assert reader.feed(received) is None
    error = reader.cut_short()
    assert error.code == code
    assert says in str(error)
    assert str(error).isprintable()


def assert_sentence(error: UpstreamInvalid, expected: dict[str, str]) -> None:
    assert error.code == expected["error"] == "upstream_invalid"
    assert error.status == 502
    assert re.fullmatch(r'(?s)["A-Z].*\.', str(error)), "not a whole sentence"
    assert str(error).isprintable()
    assert len(str(error)) < 400


def test_interim_responses_come_before_the_final_one() -> None:
    rest = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + PLAIN + b"hello"
    statuses = []
    while not statuses or statuses[-1] < 200:
        reader = ResponseReader()
        head = reader.feed(rest)
        assert head.status >= 200 or head.body("GET").done
        statuses.append(head.status)
        rest = reader.rest
    assert (statuses, rest) == ([100, 103, 200], b"hello")


def test_a_head_in_a_buffer() -> None:
    buffer = bytearray(b"1234" + PLAIN + b"hello")
    assert read_response(buffer, 4, 4 + len(PLAIN) - 1) is None
    assert read_response(buffer, 4, len(buffer)) == parse_response(PLAIN)
    assert read_response(buffer, 4, len(buffer), len(PLAIN)) == parse_response(PLAIN)
    with pytest.raises(UpstreamInvalid, match=f"larger than {len(PLAIN) - 1} bytes"):
        read_response(buffer, 4, len(buffer), len(PLAIN) - 1)


def test_a_head_may_have_as_many_bytes_as_allowed_and_no_more() -> None:
    assert outcome([PLAIN + b"hello"], len(PLAIN)).size == len(PLAIN)
    assert outcome([PLAIN], len(PLAIN) - 1) == "upstream_invalid"
    assert outcome(single_bytes(PLAIN), len(PLAIN) - 1) == "upstream_invalid"
    assert outcome([b"H" * 1024], 1024) == "upstream_invalid"


ACCEPTED, REFUSED = ([message.data for message in found if len(message.data) < 1000] for found in (VALID, INVALID))
PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"HTTP/1.1 200", b"Content-Length: 1\r\n", b"5", b"\xff"]
PIECES += [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"0\r\n\r\n"]


of_the_corpus = mangled(st.sampled_from(ACCEPTED) | st.sampled_from(REFUSED), PIECES)


@settings(max_examples=300)
@given(st.binary(max_size=200) | of_the_corpus, st.lists(st.integers(0, 400)), st.integers(20, 300))
def test_any_bytes_end_in_the_same_way_however_they_are_cut(data: bytes, cuts: list[int], max_bytes: int) -> None:
    ends_the_same(lambda chunks: outcome(chunks, max_bytes), data, cuts)


@settings(max_examples=300)
@given(of_the_corpus)
def test_what_is_accepted_is_strict_http(data: bytes) -> None:
    """A second reader, of a few lines, agrees with every head that is accepted."""
    head = outcome([data])
    if not isinstance(head, ResponseHead):
        return
    line, *lines = data[: head.size - 4].split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?", line)
    assert all(re.fullmatch(rb"[^\x00-\x20:\x7f-\xff]+:[^\x00-\x08\x0a-\x1f\x7f]*", field) for field in lines)
    names = [field.partition(b":")[0].lower() for field in lines]
    kept = [name for name, _, _ in head.fields]
    if head.status < 200 or head.status in (204, 304):
        framing = {b"content-length", b"transfer-encoding", b"trailer"}
        assert [name for name in names if name not in framing] == [name for name in kept if name not in framing]
        assert b"transfer-encoding" not in kept
        assert head.status == 304 or b"content-length" not in kept
        assert not (head.keep_alive and len(kept) < len(names))
        assert not head.chunked
    else:
        assert names == kept
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert not (head.chunked and head.version == (1, 0))
