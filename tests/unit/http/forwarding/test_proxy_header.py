"""localtunnel.http.forwarding.proxy_header: every header whole, byte by byte and with
what follows, and what is none.
"""

import itertools
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import BadRequest
from localtunnel.http.forwarding.proxy_header import MAX_BINARY, MAX_LINE, UNKNOWN, Origin, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TRAILING = [b"", b"G", b"\r\n", b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n", SIGNATURE, b"PROXY ", b"x" * 100_000]


def binary(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def addresses(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    packed = ip_address(source).packed + ip_address(destination).packed
    return packed + struct.pack("!HH", source_port, destination_port)


V4 = addresses("203.0.113.7", "192.0.2.1", 51234, 80)
V6 = addresses("2001:db8::7", "2001:db8::1", 51234, 443)
V6_LONGEST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

VALID = {
    "v1 TCP4": (b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80\r\n", Origin("203.0.113.7", 51234)),
    "v1 TCP4 highest": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Origin("255.255.255.255", 65535),
    ),
    "v1 TCP6": (b"PROXY TCP6 2001:DB8::7 ::1 51234 80\r\n", Origin("2001:db8::7", 51234)),
    "v1 TCP6 mapped": (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 1 0\r\n", Origin("203.0.113.7", 1)),
    "v1 TCP6 longest": (f"PROXY TCP6 {V6_LONGEST} {V6_LONGEST} 65535 65535\r\n".encode(), Origin(V6_LONGEST, 65535)),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", UNKNOWN),
    "v1 UNKNOWN with more": (f"PROXY UNKNOWN {V6_LONGEST} {V6_LONGEST} 65535 65535\r\n".encode(), UNKNOWN),
    "v2 TCP4": (binary(0x21, 0x11, V4), Origin("203.0.113.7", 51234)),
    "v2 TCP6": (binary(0x21, 0x21, V6), Origin("2001:db8::7", 51234)),
    "v2 TCP4 with extensions": (binary(0x21, 0x11, V4 + b"\x04\x00\x03abc"), Origin("203.0.113.7", 51234)),
    "v2 TCP6 mapped": (
        binary(0x21, 0x21, addresses("::ffff:203.0.113.7", "::1", 5, 6)),
        Origin("203.0.113.7", 5),
    ),
    "v2 longest": (binary(0x21, 0x11, V4.ljust(MAX_BINARY - 16, b"\x04")), Origin("203.0.113.7", 51234)),
    "v2 LOCAL": (binary(0x20, 0x00, b""), UNKNOWN),
    "v2 LOCAL with addresses": (binary(0x20, 0x11, V4), UNKNOWN),
    "v2 LOCAL with anything": (binary(0x20, 0xFF, b"?" * 7), UNKNOWN),
    "v2 no family": (binary(0x21, 0x00, b"\x04\x00\x01x"), UNKNOWN),
    "v2 UDP4": (binary(0x21, 0x12, V4), UNKNOWN),
    "v2 UDP6": (binary(0x21, 0x22, V6), UNKNOWN),
    "v2 unix stream": (binary(0x21, 0x31, b"/" * 216), UNKNOWN),
    "v2 unix datagram": (binary(0x21, 0x32, b"/" * 216), UNKNOWN),
}
INVALID = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "lower case": b"proxy TCP4 203.0.113.7 192.0.2.1 51234 80\r\n",
    "another word": b"PROXIES TCP4 203.0.113.7 192.0.2.1 51234 80\r\n",
    "another family": b"PROXY TCP5 203.0.113.7 192.0.2.1 51234 80\r\n",
    "UDP4": b"PROXY UDP4 203.0.113.7 192.0.2.1 51234 80\r\n",
    "IPv6 as TCP4": b"PROXY TCP4 2001:db8::7 ::1 51234 80\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 203.0.113.7 192.0.2.1 51234 80\r\n",
    "mixed": b"PROXY TCP4 203.0.113.7 ::1 51234 80\r\n",
    "leading zero in an address": b"PROXY TCP4 203.0.113.07 192.0.2.1 51234 80\r\n",
    "address out of range": b"PROXY TCP4 203.0.113.256 192.0.2.1 51234 80\r\n",
    "short address": b"PROXY TCP4 203.0.113 192.0.2.1 51234 80\r\n",
    "zone": b"PROXY TCP6 fe80::1%1 ::1 51234 80\r\n",
    "leading zero in a port": b"PROXY TCP4 203.0.113.7 192.0.2.1 051234 80\r\n",
    "port out of range": b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 80\r\n",
    "second port out of range": b"PROXY TCP4 203.0.113.7 192.0.2.1 80 65536\r\n",
    "signed port": b"PROXY TCP4 203.0.113.7 192.0.2.1 +1 80\r\n",
    "port missing": b"PROXY TCP4 203.0.113.7 192.0.2.1 51234\r\n",
    "one more word": b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80 81\r\n",
    "two spaces": b"PROXY TCP4  203.0.113.7 192.0.2.1 51234 80\r\n",
    "space at the end": b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80 \r\n",
    "tab": b"PROXY TCP4\t203.0.113.7 192.0.2.1 51234 80\r\n",
    "bare line feed": b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80\n",
    "bare carriage return": b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80\r\r\n",
    "UNKNOWN and bare line feed": b"PROXY UNKNOWN\n",
    "UNKNOWN and more of a word": b"PROXY UNKNOWNS\r\n",
    "no end": b"PROXY UNKNOWN " + b"x" * MAX_LINE,
    "one byte too long": b"PROXY UNKNOWN ".ljust(MAX_LINE - 1, b"x") + b"\r\n",
    "empty line": b"\r\n\r\n\r\n",
    "signature but for its end": SIGNATURE[:-1] + b"\r",
    "version 1 in version 2": binary(0x11, 0x11, V4),
    "version 3": binary(0x31, 0x11, V4),
    "unknown command": binary(0x22, 0x11, V4),
    "unknown family": binary(0x21, 0x41, V4),
    "unknown transport": binary(0x21, 0x13, V4),
    "no transport": binary(0x21, 0x10, V4),
    "too short for IPv4": binary(0x21, 0x11, V4[:-1]),
    "too short for IPv6": binary(0x21, 0x21, V6[:-1]),
    "too short for UDP": binary(0x21, 0x12, V4[:-1]),
    "too short for unix sockets": binary(0x21, 0x31, b"/" * 215),
    "too long": binary(0x21, 0x11, V4, length=MAX_BINARY - 15),
    "much too long": binary(0x20, 0x00, b"", length=0xFFFF),
}


def read(chunks: list[bytes]) -> tuple[Origin, bytes] | None:
    """Feed until there is an origin; return it with the rest of that chunk and all later ones."""
    header = ProxyHeader()
    for number, chunk in enumerate(chunks, 1):
        origin = header.feed(chunk)
        if origin is not None:
            return origin, header.rest + b"".join(chunks[number:])
    return None


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


every_valid = pytest.mark.parametrize(("data", "origin"), VALID.values(), ids=VALID)
every_invalid = pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)


@every_valid
@pytest.mark.parametrize("trailing", TRAILING, ids=lambda trailing: trailing[:6].hex())
def test_a_valid_header_whole(data: bytes, origin: Origin, trailing: bytes) -> None:
    assert read([data + trailing]) == (origin, trailing)


@every_valid
def test_a_valid_header_byte_by_byte(data: bytes, origin: Origin) -> None:
    assert read([*single_bytes(data), b"rest"]) == (origin, b"rest")
    # Nothing comes before the last byte.
    assert read(single_bytes(data[:-1])) is None


@every_invalid
def test_an_invalid_header_is_refused_whole(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read([data])


@every_invalid
def test_an_invalid_header_is_refused_byte_by_byte(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read(single_bytes(data))


def test_what_cannot_become_a_header_is_refused_at_once() -> None:
    """A visitor that speaks HTTP must not wait for a deadline, and a length is checked before its bytes are awaited."""
    for first in (b"G", b"PROXX", b"\r\n\r\n\r"):
        with pytest.raises(BadRequest):
            read([first])
    with pytest.raises(BadRequest):
        read([binary(0x21, 0x11, b"", length=11)])


def test_nothing_is_kept_after_the_header() -> None:
    header = ProxyHeader()
    header.feed(VALID["v2 TCP4"][0])
    assert (header.rest, header._received) == (b"", b"")


@given(st.sampled_from(sorted(VALID)), st.lists(st.integers(0, 200), max_size=5))
def test_every_cut_gives_the_same(name: str, cuts: list[int]) -> None:
    data, origin = VALID[name]
    data += b"rest"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert read([data[start:end] for start, end in itertools.pairwise(edges)]) == (origin, b"rest")


@given(st.ip_addresses(), st.integers(0, 65535), st.sampled_from([1, 2]))
def test_every_address_arrives(address, port: int, version: int) -> None:
    if version == 1:
        data = f"PROXY TCP{address.version} {address} {address} {port} 80\r\n".encode()
    else:
        data = binary(0x21, 0x11 if address.version == 4 else 0x21, addresses(str(address), str(address), port, 80))
    mapped = getattr(address, "ipv4_mapped", None)
    assert read([data]) == (Origin(str(mapped or address), port), b"")


@given(
    st.binary(max_size=300)
    | st.binary(max_size=150).map(lambda tail: b"PROXY " + tail)
    | st.binary(max_size=300).map(lambda tail: SIGNATURE + tail)
)
def test_whatever_comes_it_is_read_or_refused_alike_in_any_cut(data: bytes) -> None:
    outcomes = []
    for chunks in ([data], single_bytes(data)):
        try:
            outcomes.append(read(chunks))
        except BadRequest as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
