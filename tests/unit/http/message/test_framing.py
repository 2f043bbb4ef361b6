"""localtunnel.http.message.framing: lengths, codings and options of a connection; the rest of it is in the corpus."""

import pytest

from localtunnel.errors import BadRequest, UpstreamInvalid
from localtunnel.http.message.framing import is_websocket, keeps_alive, offers_websocket, read_length, read_options
from localtunnel.http.message.refusal import REQUEST, RESPONSE


@pytest.mark.parametrize("digits", [b"0", b"5", b"0005", b"9" * 18])
def test_a_length(digits: bytes) -> None:
    assert read_length({b"content-length": [digits]}, (1, 1), REQUEST) == (int(digits), False)


@pytest.mark.parametrize("length", [b"", b"9" * 19, b"+5", b"-0", b"5,5", b"0x5", b"5 5", b"\xb2", b"1_0", b"five"])
def test_what_is_no_length(length: bytes) -> None:
    with pytest.raises(BadRequest, match="plain decimal number"):
        read_length({b"content-length": [length]}, (1, 1), REQUEST)
    with pytest.raises(UpstreamInvalid, match="plain decimal number"):
        read_length({b"content-length": [length]}, (1, 1), RESPONSE)


def test_neither_length_nor_coding() -> None:
    assert read_length({}, (1, 1), REQUEST) == (None, False)


def test_chunked() -> None:
    assert read_length({b"transfer-encoding": [b"CHUNKED"]}, (1, 1), REQUEST) == (None, True)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (None, set()),
        ([b""], set()),
        ([b"close"], {b"close"}),
        ([b"Keep-Alive"], {b"keep-alive"}),
        ([b"Keep-Alive", b"Close"], {b"keep-alive", b"close"}),
        ([b" a ,, B\t,c"], {b"a", b"b", b"c"}),
    ],
)
def test_options(values: list[bytes] | None, options: set[bytes]) -> None:
    assert read_options(values, REQUEST) == options


@pytest.mark.parametrize(
    ("options", "version", "keeps"),
    [
        (set(), (1, 1), True),
        (set(), (1, 0), False),
        ({b"keep-alive"}, (1, 0), True),
        ({b"close"}, (1, 1), False),
        ({b"close", b"keep-alive"}, (1, 1), False),
        ({b"close", b"keep-alive"}, (1, 0), False),
    ],
)
def test_keeps_alive(options: set[bytes], version: tuple[int, int], keeps: bool) -> None:
    assert keeps_alive(frozenset(options), version) == keeps


@pytest.mark.parametrize(
    ("upgrades", "options", "offers", "is_one"),
    [
        ([b"WebSocket"], {b"upgrade"}, True, True),
        ([b"websocket"], set(), False, False),
        (None, {b"upgrade"}, False, False),
        ([b"h2c"], {b"upgrade"}, False, False),
        ([b"websocket/13"], {b"upgrade"}, False, False),
        ([b"websocket", b"h2c"], {b"upgrade"}, True, False),
        ([b"h2c, WebSocket"], {b"upgrade"}, True, False),
    ],
)
def test_websockets_are_offered_among_others_and_granted_alone(
    upgrades: list[bytes] | None, options: set[bytes], offers: bool, is_one: bool
) -> None:
    found = {} if upgrades is None else {b"upgrade": upgrades}
    assert offers_websocket(found, frozenset(options)) == offers
    assert is_websocket(found, frozenset(options)) == is_one
