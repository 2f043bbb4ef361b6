"""Reads tests/data/corpus/: HTTP messages as bytes, each with what must come of it. Its README.md has the schema.

Imported by itself: the modules that need no corpus read no files.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st

from harness.places import CORPUS
from localtunnel.errors import VisitorError

USUAL = {"length": None, "chunked": False, "options": [], "keep_alive": True, "upgrade": False}
"""What a valid head reads as where the file beside it does not say otherwise."""


@dataclass(frozen=True)
class Message:
    """One file of the corpus, and the object beside it."""

    name: str
    data: bytes
    expected: dict[str, Any]

    @property
    def body_size(self) -> int:
        """Bytes behind the head, of a valid message."""
        return self.expected.get("body", 0)

    @property
    def head(self) -> bytes:
        """The head of a valid message."""
        return self.data[: len(self.data) - self.body_size]

    @property
    def fails_in_body(self) -> bool:
        """Whether it is an invalid message with a valid head."""
        return self.expected.get("in") == "body"

    def in_pieces(self, count: int = 10) -> list[bytes]:
        """Return the bytes in ``count`` pieces, behind the head as one more where that is valid and the rest is not."""
        head, blank, rest = self.data.partition(b"\r\n\r\n") if self.fails_in_body else (b"", b"", self.data)
        size = max(1, len(rest) // count)
        return [head + blank, *(rest[at : at + size] for at in range(0, len(rest), size))]

    def head_as_expected(self) -> dict[str, Any]:
        """Return what ``plain`` has to return for the head of a valid message."""
        members = {
            name: value for name, value in self.expected.items() if name not in ("body", "method", "until_close")
        }
        if "method" in self.expected and "target" in self.expected:
            members["method"] = self.expected["method"]
        return {**USUAL, **members, "size": len(self.head)}


def messages(folder: str) -> list[Message]:
    """Return the messages of ``folder``, such as ``valid/requests``, in the order of their names."""
    paths = sorted((CORPUS / folder).glob("*.http"))
    return [
        Message(path.stem, path.read_bytes(), json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        for path in paths
    ]


def parameters(found: list[Message]) -> pytest.MarkDecorator:
    """Return the mark that runs a test for each of ``found``, which it takes as ``message``."""
    return pytest.mark.parametrize("message", found, ids=lambda message: message.name)


def plain(head: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of ``head`` that ``names`` has, as JSON would have them."""
    seen = {name: getattr(head, name) for name in names}
    seen["options"] = sorted(option.decode("latin-1") for option in head.options)
    seen["version"] = list(head.version)
    if "reason" in seen:
        seen["reason"] = head.reason.decode("latin-1")
    return seen


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, cut at those of ``places`` that lie in it."""
    borders = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def ends_the_same(outcome: Callable[[list[bytes]], Any], data: bytes, places: list[int]) -> Any:
    """Return the ``outcome`` of ``data``, which has to be the same cut at ``places`` and byte by byte."""
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome(single_bytes(data)) == whole
    return whole


@st.composite
def mangled(draw: st.DrawFn, valid: st.SearchStrategy[bytes], pieces: list[bytes]) -> bytes:
    """One of ``valid`` with some of ``pieces`` put in, and bytes left out or overwritten."""
    data = draw(valid)
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from([b"", *pieces]) | st.binary(max_size=3)) + data[at + length :]
    return data


def head_of(reader: Any, chunks: list[bytes]) -> Any:
    """Feed ``reader`` until there is a head or an error; return the head, the error's code, or None if neither came."""
    try:
        for chunk in chunks:
            head = reader.feed(chunk)
            if head is not None:
                return head
    except VisitorError as error:
        return error.code
    return None


def scan(body: Any, pieces: list[bytes]) -> int:
    """Feed ``pieces`` to a scanner until it is done or they are; return how many bytes it took for its own."""
    taken = 0
    for piece in pieces:
        taken += body.feed(piece)
        if body.done:
            break
    return taken
