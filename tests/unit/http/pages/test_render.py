"""localtunnel.http.pages.render: what is rendered reads back, and no field can begin another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.pages.render import render


def test_bytes() -> None:
    assert render(404, [("Content-Type", "text/plain")], b"gone\n") == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\ngone\n"
    )


def test_head_only_keeps_the_length_and_leaves_the_body_out() -> None:
    whole = render(200, [], b"12345")
    assert render(200, [], b"12345", head_only=True) == whole.removesuffix(b"12345")
    assert b"Content-Length: 5\r\n" in whole


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\r\n", "a\n", "\n", "a\nX: b", "a\rX", "a\0b", "\x7f", "\u20ac"])
def test_a_value_that_could_end_its_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        render(200, [("X-A", value)], b"")


@pytest.mark.parametrize("name", ["", "X A", "X:", "X\r\nY", "X\n", "\u00e9"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        render(200, [(name, "a")], b"")


@pytest.mark.parametrize("status", [0, 99, 101, 204, 205, 304, 299, 600])
def test_a_status_that_is_unknown_or_has_no_body_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        render(status, [], b"")


@given(st.text(), st.text(), st.binary())
def test_a_field_stays_one_line(name: str, value: str, body: bytes) -> None:
    try:
        response = render(200, [(name, value)], body)
    except ValueError:
        return
    head, _, rest = response.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[1] == f"{name}: {value}".encode("latin-1")
    assert lines[2:] == [b"Content-Length: %d" % len(body), b"Connection: close"]
    assert b"\n" not in b"".join(lines)
    assert rest == body
