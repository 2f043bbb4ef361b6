"""localtunnel.http.message.answer: the heads, the body and its end, whether they come
in the pump's buffer or in pieces.
"""

from collections.abc import Iterable

import pytest
from harness.exchanges import OK
from harness.messages import single_bytes

from localtunnel.errors import UpstreamInvalid
from localtunnel.http.message.answer import MAX_INTERIM, Answer
from localtunnel.net.flow import buffer as hub

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def received(data: bytes) -> memoryview:
    """Return ``data`` as the pump shows it: at the beginning of the buffer that all connections share."""
    hub.buffer[: len(data)] = data
    return hub.view[: len(data)]


def read(answer: Answer, pieces: Iterable[bytes | memoryview]) -> tuple[list[int], bytes]:
    """Show the pieces of one connection to ``answer``, as an exchange does; return the statuses and the body."""
    statuses, passed = [], b""
    for piece in pieces:
        if answer.body is not None:
            passed += answer.scan(answer.body, piece)
            continue
        found = answer.next_head(piece, hub.buffer)
        while found is not None:
            head, rest = found
            statuses.append(head.status)
            if head.status >= 200:
                answer.head, answer.body = head, head.body("GET")
                passed += answer.scan(answer.body, rest)
                break
            found = answer.next_head(bytes(rest))
    return statuses, passed


def in_the_buffer(data: bytes) -> list[memoryview]:
    return [received(data)]


def in_a_buffer_of_its_own(data: bytes) -> list[memoryview]:
    """What came with the end of a handshake, say, while the shared buffer has something else."""
    received(b"HTTP/1.1 500 Not This\r\n\r\n" + b"x" * len(data))
    return [memoryview(data)]


@pytest.mark.parametrize("cut", [in_the_buffer, in_a_buffer_of_its_own, single_bytes], ids=["buffer", "own", "bytes"])
@pytest.mark.parametrize(
    ("data", "statuses", "body"),
    [
        (OK, [200], b"ok"),
        (HINTS + OK, [103, 200], b"ok"),
        (HINTS * 3 + CHUNKED, [103, 103, 103, 200], b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", [204], b""),
    ],
    ids=["counted", "after hints", "chunked", "no body"],
)
def test_an_answer_is_read_to_its_end(cut, data, statuses, body) -> None:
    answer = Answer()
    assert read(answer, cut(data)) == (statuses, body)
    assert answer.body.done
    assert answer.is_reusable


@pytest.mark.parametrize("size", range(1, len(HINTS + OK)))
def test_what_is_cut_in_the_buffer_goes_on_with_the_next_piece(size: int) -> None:
    """The buffer is used for others in between."""
    whole = HINTS + OK
    answer = Answer()

    def pieces() -> Iterable[memoryview]:
        yield received(whole[:size])
        received(b"x" * len(whole))
        yield received(whole[size:])

    assert read(answer, pieces()) == ([103, 200], b"ok")
    assert answer.is_reusable


@pytest.mark.parametrize("cut", [in_the_buffer, lambda data: [data]], ids=["buffer", "whole"])
def test_what_stands_behind_it_is_no_part_of_it_and_ends_its_connection(cut) -> None:
    answer = Answer()
    assert read(answer, cut(OK + OK)) == ([200], b"ok")
    assert answer.body.done
    assert not answer.is_clean
    assert not answer.is_reusable


def test_bytes_behind_a_body_that_came_by_themselves_are_no_part_of_it() -> None:
    answer = Answer()
    assert read(answer, [OK[:-1], OK[-1:] + b"more"]) == ([200], b"ok")
    assert not answer.is_reusable


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        OK[:-1],
        b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        HINTS,
        b"",
    ],
    ids=["closing", "1.0", "until the end", "half", "a framed hint", "a framed 204", "hints alone", "nothing"],
)
def test_a_connection_that_may_not_carry_another(data: bytes) -> None:
    answer = Answer()
    read(answer, [data])
    assert not answer.is_reusable


@pytest.mark.parametrize("data", [b"H", HINTS, OK], ids=["a byte", "hints", "all"])
@pytest.mark.parametrize("cut", [in_the_buffer, lambda data: [data]], ids=["buffer", "whole"])
def test_it_has_begun_with_its_first_byte(cut, data: bytes) -> None:
    answer = Answer()
    assert not answer.has_begun
    answer.next_head(cut(data)[0], hub.buffer)
    assert answer.has_begun


@pytest.mark.parametrize("cut", [in_the_buffer, single_bytes], ids=["buffer", "bytes"])
def test_interim_responses_have_a_limit(cut) -> None:
    statuses, passed = read(Answer(), cut(HINTS * MAX_INTERIM + OK))
    assert (statuses, passed) == ([103] * MAX_INTERIM + [200], b"ok")
    answer, shown = Answer(), []
    with pytest.raises(UpstreamInvalid, match="More than 16 interim responses"):
        for piece in cut(HINTS * 1000):
            found = answer.next_head(piece, hub.buffer)
            while found is not None:
                head, rest = found
                shown.append(head.status)
                found = answer.next_head(bytes(rest))
    assert len(shown) == MAX_INTERIM


@pytest.mark.parametrize("cut", [in_the_buffer, single_bytes], ids=["buffer", "bytes"])
def test_what_is_no_answer_is_refused(cut) -> None:
    with pytest.raises(UpstreamInvalid):
        read(Answer(), cut(HINTS + b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
