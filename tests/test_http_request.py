"""localtunnel.http.request: every head of the corpus in every cut, the limits, and whatever hypothesis thinks of."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtunnel.errors import BadRequest, NoHost, VisitorError
from localtunnel.http.authority import shown
from localtunnel.http.request import HeadReader, RequestHead, parse_head
from localtunnel.protocol import limits

CORPUS = Path(__file__).parent / "corpus" / "requests"
VALID = sorted((CORPUS / "valid").glob("*.http"))
INVALID = sorted((CORPUS / "invalid").glob("*.http"))
TRAILING = [b"\r\n", b"\x16\x03\x01", b"\n\n", b"body" * 50_000, b"GET /next HTTP/1.1\r\nHost: other.localhost\r\n\r\n"]
PLAIN = b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n"

every_valid = pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
every_invalid = pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)


def expectation(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def outcome(chunks: list[bytes], max_bytes: int = limits.MAX_HEAD_BYTES) -> RequestHead | str | None:
    """Feed until there is a head or an error; return the head, the error's code, or None if neither came."""
    reader = HeadReader(max_bytes)
    try:
        for chunk in chunks:
            head = reader.feed(chunk)
            if head is not None:
                return head
    except VisitorError as error:
        return error.code
    return None


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def head_with(*lines: str, start: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([start, "Host: demo.localhost", *lines, "", ""]).encode("latin-1")


def padded(size: int) -> bytes:
    """A valid head of exactly ``size`` bytes."""
    return head_with("X-Padding: " + "a" * (size - len(head_with("X-Padding: "))))


@every_valid
def test_valid_heads_are_understood(path: Path) -> None:
    data = path.read_bytes()
    head = HeadReader().feed(data)
    assert head is not None
    seen = json.loads(json.dumps({name: getattr(head, name) for name in head.__struct_fields__}))
    assert seen == {**expectation(path), "size": len(data)}


@every_valid
def test_valid_heads_byte_by_byte(path: Path) -> None:
    data = path.read_bytes()
    reader = HeadReader()
    heads = [reader.feed(byte) for byte in single_bytes(data)]
    assert heads == [None] * (len(data) - 1) + [HeadReader().feed(data)]
    assert reader.data == data


@every_valid
@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_valid_heads_cut_near_the_blank_line(path: Path, cut: int) -> None:
    data = path.read_bytes()
    assert outcome([data[:-cut], data[-cut:]]) == outcome([data])


@every_valid
@pytest.mark.parametrize("trailing", TRAILING, ids=range(len(TRAILING)))
def test_what_follows_a_head_is_kept_and_not_read(path: Path, trailing: bytes) -> None:
    data = path.read_bytes()
    reader = HeadReader()
    head = reader.feed(data + trailing)
    assert head == HeadReader().feed(data)
    assert reader.data == data + trailing
    assert reader.data[head.size :] == trailing


@every_invalid
def test_invalid_heads_are_refused_and_the_sentence_says_why(path: Path) -> None:
    expected = expectation(path)
    with pytest.raises(VisitorError, match=re.escape(expected["says"])) as caught:
        HeadReader().feed(path.read_bytes())
    assert caught.value.code == expected["error"]
    assert re.fullmatch(r'(?s)["A-Z].*\.', str(caught.value)), "not a whole sentence"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@every_invalid
def test_invalid_heads_byte_by_byte_and_with_trailing_data(path: Path) -> None:
    data = path.read_bytes()
    expected = expectation(path)["error"]
    assert outcome(single_bytes(data)) == expected
    assert [outcome([data + trailing]) for trailing in TRAILING] == [expected] * len(TRAILING)


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

ACCEPTED, REFUSED = ([path.read_bytes() for path in paths if path.stat().st_size < 1000] for paths in (VALID, INVALID))
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


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A head of the corpus with pieces put in, left out or overwritten."""
    data = draw(st.sampled_from(ACCEPTED) | st.sampled_from(REFUSED))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from([b"", *PIECES]) | st.binary(max_size=3)) + data[at + length :]
    return data


hostile = st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | mangled()


@settings(max_examples=400, deadline=None)
@given(hostile, st.lists(st.integers(0, 400)), st.integers(20, 300))
def test_any_bytes_end_in_the_same_way_however_they_are_cut(data: bytes, cuts: list[int], max_bytes: int) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in itertools.pairwise(places)]
    whole = outcome([data], max_bytes)
    assert outcome(chunks, max_bytes) == whole
    assert outcome(single_bytes(data), max_bytes) == whole


@settings(max_examples=400, deadline=None)
@given(mangled())
def test_what_is_accepted_is_strict_http(data: bytes) -> None:
    """A second reader, of a few lines and without httptools, agrees with every head that is accepted."""
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
