"""The sans-I/O decoder: every stream whole, cut at every byte, byte by byte, with trailing data; then hostile bytes."""

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from harness.vector_items import frame, load, to_bytes
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import FrameError, HeaderError, ProtocolError, VersionError
from localtunnel.protocol.limits import MAX_DEPTH, MAX_HEARTBEAT, MAX_MESSAGE
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, VERSIONS
from localtunnel.protocol.wire.framing import HEADER_SIZE, Decoder, check_depth, encode_frame

ERRORS = {"frame": FrameError, "header": HeaderError, "version": VersionError}


def decode(pieces: Iterable[bytes], *, header: bool, frames: int = sys.maxsize) -> tuple[list[bytes], bytes]:
    """Return the payloads, ``frames`` of them at most, and what is left then."""
    decoder = Decoder(None if header else LTP_0_3)
    payloads: list[bytes] = []
    for piece in pieces:
        decoder.feed(piece)
        while len(payloads) < frames and (payload := decoder.next_payload()) is not None:
            payloads.append(payload)
    return payloads, decoder.take_rest()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def ways_to_arrive(data: bytes) -> Iterable[list[bytes]]:
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for place in range(len(data)) if len(data) < 1000 else (1, 7, 11, len(data) // 2, len(data) - 1):
        yield [data[:place], data[place:]]


@pytest.mark.parametrize("case", load("framing.json"))
def test_vectors(case: dict[str, Any]) -> None:
    stream, header, frames = to_bytes(case["stream"]), case["header"], case.get("frames", sys.maxsize)
    for pieces in ways_to_arrive(stream):
        if "refused" in case:
            with pytest.raises(ERRORS[case["refused"]]):
                decode(pieces, header=header, frames=frames)
        else:
            expected = [to_bytes(items) for items in case["payloads"]], to_bytes(case["rest"])
            assert decode(pieces, header=header, frames=frames) == expected


@pytest.mark.parametrize("case", [case for case in load("framing.json") if "refused" in case.values[0]])
def test_refused_streams_are_refused_whatever_follows(case: dict[str, Any]) -> None:
    with pytest.raises(ERRORS[case["refused"]]):
        decode([to_bytes(case["stream"]) + b"LTP/0.2 and more"], header=case["header"])


@pytest.mark.parametrize("trailing", [b"", b"\0", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100])
def test_trailing_bytes_are_kept_for_the_stream(trailing: bytes) -> None:
    decoder = Decoder()
    decoder.feed(LTP_0_2.header + frame(b"{}") + trailing)
    assert decoder.next_payload() == b"{}"
    assert decoder.take_rest() == trailing
    assert decoder.take_rest() == b""


def test_version_is_known_once_the_header_is_whole() -> None:
    decoder = Decoder()
    decoder.feed(LTP_0_2.header[:-1])
    assert decoder.next_payload() is None
    assert decoder.version is None
    decoder.feed(LTP_0_2.header[-1:])
    assert decoder.next_payload() is None
    assert decoder.version == LTP_0_2


@pytest.mark.parametrize("size", range(1, 8))
def test_header_is_refused_at_its_first_wrong_byte(size: int) -> None:
    wrong = LTP_0_2.header[: size - 1] + b"~"
    decoder = Decoder()
    decoder.feed(wrong)
    # Behind "LTP/" any byte may begin a version; what it is shows once all seven have come.
    if 4 < size < 7:
        assert decoder.next_payload() is None
        decoder.feed(b"~" * (7 - size))
    with pytest.raises(HeaderError):
        decoder.next_payload()


@pytest.mark.parametrize("version", [f"LTP/{major}.{minor}".encode() for major in range(10) for minor in range(10)])
def test_every_version_is_spoken_or_refused_as_a_version(version: bytes) -> None:
    decoder = Decoder()
    decoder.feed(version)
    if version in {each.header for each in VERSIONS}:
        assert decoder.next_payload() is None
    else:
        with pytest.raises(VersionError, match=r"spoken here: LTP/0\.2"):
            decoder.next_payload()


def test_limit_can_be_lowered_between_frames() -> None:
    decoder = Decoder(LTP_0_3)
    largest = b"x" * (MAX_HEARTBEAT + 1)
    decoder.feed(frame(largest) + frame(largest))
    assert decoder.next_payload() == largest
    decoder.limit = MAX_HEARTBEAT
    with pytest.raises(FrameError, match=str(MAX_HEARTBEAT)):
        decoder.next_payload()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, MAX_MESSAGE])
def test_encode_frame(size: int) -> None:
    payload = b"x" * size
    assert encode_frame(payload) == frame(payload)


def test_encode_frame_refuses_what_no_receiver_takes() -> None:
    with pytest.raises(FrameError, match="65537"):
        encode_frame(b"x" * (MAX_MESSAGE + 1))


@given(st.lists(st.binary(max_size=300), max_size=6), st.booleans(), st.data())
def test_cuts_make_no_difference(payloads: list[bytes], header: bool, data: st.DataObject) -> None:
    stream = (LTP_0_2.header if header else b"") + b"".join(frame(payload) for payload in payloads)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert decode(cut(stream, places), header=header) == (payloads, b"")


@given(st.lists(st.binary(max_size=64), max_size=20), st.booleans())
def test_random_bytes_raise_nothing_but_protocol_errors(pieces: list[bytes], header: bool) -> None:
    try:
        payloads, rest = decode(pieces, header=header)
    except ProtocolError:
        return
    stream = b"".join(pieces)
    start = HEADER_SIZE if header and stream.startswith(LTP_0_2.header) else 0
    assert b"".join(frame(payload) for payload in payloads) + rest == stream[start:]


# Depth.


@given(st.recursive(st.just("1"), lambda inner: st.one_of(inner.map("[{}]".format), inner.map('{{"a":{}}}'.format))))
def test_depth_is_counted(text: str) -> None:
    depth = text.count("[") + text.count("{")
    if depth > MAX_DEPTH:
        with pytest.raises(FrameError, match="nests deeper"):
            check_depth(text.encode())
    else:
        check_depth(text.encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"[]" * 1000,
        b'["' + b"[" * 1000 + b'"]',
        b'["\\"' + b"[" * 1000 + b'"]',
        b'["\\\\", "' + b"{" * 1000 + b'"]',
        b'["\n' + b"[" * 1000 + b'"]',
    ],
)
def test_brackets_that_nest_nothing_are_not_counted(payload: bytes) -> None:
    check_depth(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * (MAX_DEPTH + 1),
        b'["\\\\"' + b"[" * MAX_DEPTH + b'"',
        b'["]]]]", ' + b"[" * MAX_DEPTH,
        b'["\\"]", ' + b"[" * MAX_DEPTH,
    ],
)
def test_brackets_behind_strings_are_counted(payload: bytes) -> None:
    with pytest.raises(FrameError):
        check_depth(payload)


@given(st.binary(max_size=200))
def test_depth_of_random_bytes(payload: bytes) -> None:
    try:
        check_depth(payload)
    except FrameError:
        assert payload.count(b"[") + payload.count(b"{") > MAX_DEPTH


# The work is linear in the bytes: twice as many must not cost three times as much.


def seconds(work: Callable[[], object]) -> float:
    """Return the fastest of a few runs, in seconds of this process's time."""
    times = []
    for _ in range(7):
        begin = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - begin)
    return min(times) / 1e9


def assert_linear(make: Callable[[int], Callable[[], object]], size: int) -> None:
    """Compare ``size`` with eight times as much: quadratic work would take 64 times as long."""
    once, many = seconds(make(size)), seconds(make(8 * size))
    assert many < 24 * max(once, 1e-4), f"{once:.4f} s for {size}, {many:.4f} s for {8 * size}"


HOSTILE = {
    "escaped quotes": b'\\"',
    "quotes": b'"',
    "backslashes": b"\\",
    "strings": b'"a",',
    "a string": b"a",
    "brackets": b"[]",
}


@pytest.mark.parametrize("begin", [b"[]" * 9, b"[]" * 9 + b'"'], ids=["between strings", "in a string"])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_depth_costs_linear_time(begin: bytes, unit: bytes) -> None:
    def make(size: int) -> Callable[[], object]:
        payload = begin + unit * (size // len(unit))
        return lambda: check_depth(payload)

    assert_linear(make, MAX_MESSAGE // 64)


def test_decoding_byte_by_byte_costs_linear_time() -> None:
    def make(size: int) -> Callable[[], object]:
        pieces = [b"%c" % byte for byte in frame(b"x" * size)]
        return lambda: decode(pieces, header=False)

    assert_linear(make, MAX_MESSAGE // 8)


def test_decoding_many_frames_at_once_costs_linear_time() -> None:
    def make(size: int) -> Callable[[], object]:
        stream = frame(b"{}") * size
        return lambda: decode([stream], header=False)

    assert_linear(make, 2000)
