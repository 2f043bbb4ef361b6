"""localtunnel.http.message.collecting: heads that come again; how they come in pieces
is tested with requests and responses.
"""

import pytest

from localtunnel.errors import BadRequest
from localtunnel.http.message.collecting import MAX_REPEATED, REPEATED, Repeated
from localtunnel.http.message.request import parse_head

HEAD = b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n"


class Counting:
    """Parses, and counts how often."""

    def __init__(self):
        self.count = 0
        self.repeated = Repeated(self.parse)

    def parse(self, head):
        self.count += 1
        return parse_head(head)

    def parsed_for(self, *heads):
        """Return how often it was parsed for these heads."""
        before = self.count
        for head in heads:
            assert self.repeated.read(head) == parse_head(head)
        return self.count - before


def with_field(line):
    return HEAD[:-2] + line + b"\r\n\r\n"


def test_the_same_head_is_parsed_once():
    assert Counting().parsed_for(HEAD, HEAD, HEAD) == 1


def test_heads_that_differ_in_one_byte_are_told_apart():
    assert Counting().parsed_for(HEAD, HEAD.replace(b"demo", b"demp"), HEAD) == 2


@pytest.mark.parametrize("line", [b"Cookie: a=b", b"COOKIE: a=b", b"authorization: Basic x", b"Set-Cookie: a=b"])
def test_secrets_are_not_remembered(line):
    assert Counting().parsed_for(with_field(line), with_field(line)) == 2


def test_long_heads_are_not_remembered():
    room = MAX_REPEATED - len(with_field(b"X: "))
    assert Counting().parsed_for(*2 * [with_field(b"X: " + b"x" * room)]) == 1
    assert Counting().parsed_for(*2 * [with_field(b"X: " + b"x" * (room + 1))]) == 2


def test_what_is_remembered_is_bounded():
    counting = Counting()
    heads = [with_field(b"X: %d" % number) for number in range(REPEATED)]
    assert counting.parsed_for(*heads, *heads) == REPEATED
    assert counting.parsed_for(HEAD, *heads) == 1 + REPEATED


def test_what_is_refused_is_refused_each_time():
    counting = Counting()
    for _ in range(2):
        with pytest.raises(BadRequest):
            counting.repeated.read(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert counting.count == 2
