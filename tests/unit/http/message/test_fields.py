"""localtunnel.http.message.fields: every byte of a section is accounted for, and no line is read in two ways."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtunnel.errors import BadRequest, UpstreamInvalid, VisitorError
from localtunnel.http.message.fields import parse_fields, plain_name, values_of
from localtunnel.http.message.refusal import REQUEST, RESPONSE
from localtunnel.protocol import limits


def test_names_values_and_lines() -> None:
    lines = [b"Host: a\r\n", b"X-A:b\r\n", b'etag:\t "x" \t\r\n', b"X:\r\n", b"Y:  \r\n", b"Z: a:b \xff\t\x80\r\n"]
    assert parse_fields(b"".join(lines) + b"\r\n", REQUEST) == [
        (b"host", b"a", lines[0]),
        (b"x-a", b"b", lines[1]),
        (b"etag", b'"x"', lines[2]),
        (b"x", b"", lines[3]),
        (b"y", b"", lines[4]),
        (b"z", b"a:b \xff\t\x80", lines[5]),
    ]


def test_no_fields() -> None:
    assert parse_fields(b"\r\n", REQUEST) == []


@pytest.mark.parametrize("name", [b"ETag", b"etag", b"Etag", b"ETAG", b"eTAG", b"DNT", b"X-ODD-name"])
def test_a_name_is_lowered_however_it_is_written(name: bytes) -> None:
    assert [found for found, _, _ in parse_fields(name + b": 1\r\n\r\n", REQUEST)] == [name.lower()]


def test_every_byte_that_is_no_part_of_a_token_is_refused_in_a_name() -> None:
    token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
    for byte in (bytes([code]) for code in range(256)):
        if byte != b":":
            assert accepted(b"a" + byte + b"b: 1\r\n\r\n") == bool(token.fullmatch(byte)), byte


def test_every_control_character_but_the_tab_is_refused_in_a_value() -> None:
    for code in range(256):
        expected = code == 9 or (code >= 0x20 and code != 0x7F)
        assert accepted(b"a: b%cc\r\n\r\n" % code) == expected, code


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (b"", "does not end with an empty line"),
        (b"a: b\r\n", "does not end with an empty line"),
        (b"a: b\r\n\r\nc", "does not end with an empty line"),
        (b"a: b\r\n\r\n\r\n", "a field needs a name and a colon"),
        (b"a: b\n\r\n", "on its own"),
        (b"a: b\r\r\n\r\n", "on its own"),
        (b"a: b\n\rc: d\r\n\r\n", "on its own"),
        (b"a: b\r\n\n", "on its own"),
        (b"a: b\r\nc: \r\r\n\n", "on its own"),
        (b" a: b\r\n\r\n", "begins with white space"),
        (b"a: b\r\n\tc\r\n\r\n", "begins with white space"),
        (b"a : b\r\n\r\n", "white space before the colon"),
        (b"a\t: b\r\n\r\n", "white space before the colon"),
        (b"a\r\n\r\n", "a field needs a name and a colon"),
        (b": b\r\n\r\n", '"" is not a valid name'),
        (b"a: \x0bb\r\n\r\n", "control character"),
        (b"a: b\x0c\r\n\r\n", "control character"),
    ],
)
def test_faults(section: bytes, says: str) -> None:
    for kind, part in ((REQUEST, "head"), (RESPONSE, "trailer")):
        with pytest.raises(kind.error, match=says) as caught:
            parse_fields(section, kind, part)
        assert str(caught.value).isprintable()


def test_the_sentence_names_the_message_and_its_part() -> None:
    with pytest.raises(BadRequest, match="A line of the request's head is"):
        parse_fields(b"a\r\n\r\n", REQUEST)
    with pytest.raises(UpstreamInvalid, match="A line of the response's trailer is"):
        parse_fields(b"a\r\n\r\n", RESPONSE, "trailer")


def test_as_many_fields_as_allowed_and_no_more() -> None:
    most = b"a: b\r\n" * limits.MAX_HEAD_FIELDS
    assert len(parse_fields(most + b"\r\n", REQUEST)) == limits.MAX_HEAD_FIELDS
    with pytest.raises(BadRequest, match="101 fields"):
        parse_fields(most + b"a: b\r\n\r\n", REQUEST)


def test_values_of() -> None:
    fields = parse_fields(b"A: 1\r\nB: 2\r\na: 3\r\nC:\r\n\r\n", REQUEST)
    assert values_of(fields, frozenset({b"a", b"c", b"d"})) == {b"a": [b"1", b"3"], b"c": [b""]}


def accepted(section: bytes) -> bool:
    try:
        parse_fields(section, REQUEST)
    except VisitorError:
        return False
    return True


STRICT = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
PIECES = [b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"\0", b"\x0b", b"\x85", b"a", b"Host", b"Host: a\r\n", b"\r\n\r\n"]


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=20))
def test_exactly_what_the_grammar_has_is_accepted(data: bytes) -> None:
    for section in (data, data + b"\r\n", data + b"\r\n\r\n", b"Host: " + data + b"\r\n\r\n"):
        assert accepted(section) == bool(STRICT.fullmatch(section))


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_the_lines_are_the_section(data: bytes) -> None:
    section = b"Host: " + data + b"\r\n\r\n"
    if accepted(section):
        assert b"".join(line for _, _, line in parse_fields(section, REQUEST)) + b"\r\n" == section


@pytest.mark.parametrize("name", [b"X-Real-IP", b"x_real_ip", b"X.Real.IP", b"X!real~IP", b"x\xe9Real|IP"])
def test_names_that_other_programs_take_for_the_same(name: bytes) -> None:
    assert plain_name(name) == b"x-real-ip"


def test_letters_and_digits_are_the_only_ones_that_stay() -> None:
    plain = plain_name(bytes(range(256)))
    kept = {bytes([byte]) for byte, other in zip(range(256), plain, strict=True) if other != ord("-") or byte == other}
    assert kept == {b"-"} | {bytes([byte]) for byte in range(128) if chr(byte).isalnum()}
