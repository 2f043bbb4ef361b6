"""Makes text from another machine safe for a terminal, a log or a script.

Servers, visitors and attackers on the path choose banners, URLs, request lines and
error messages. An escape in one of them could move the cursor, rename the window or
paint a second URL, and a line break could forge a line of ours.
"""

import re
import unicodedata
from typing import Any, TypeVar

import msgspec

MAX_SHOWN = 500
"""Characters that are shown of one text: enough for any banner, while a request line
may have 64 KiB."""

MAX_ERROR = 2000
"""Characters that are shown of an error: the last sentence of a program, with names,
paths and advice."""

LINES = frozenset({"banner"})
"""Fields of events that keep their line breaks; a renderer quotes each of their
lines."""

# Control, format (among them those that turn the direction of writing), lone
# surrogates, private use, line separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

# ECMA-48: a control sequence, a string command such as OSC up to its end, and the short
# sequences of ESC.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)

_Event = TypeVar("_Event", bound=msgspec.Struct)


def clean(text: str, limit: int | None = MAX_SHOWN) -> str:
    """Return ``text`` on one line, without terminal escapes and other invisible
    characters, ``limit`` long at most."""
    if text.isprintable():
        return text[:limit]
    if limit is not None:
        # The rest is cut off below; it need not be read.
        text = text[: 2 * limit]
    text = _ESCAPES.sub("", text.expandtabs(1).replace("\n", " "))
    visible = "".join(character for character in text if unicodedata.category(character) not in _INVISIBLE)
    return visible[:limit]


def clean_lines(text: str, limit: int | None = MAX_SHOWN) -> str:
    """Return ``text`` with its lines cleaned one by one, for text that may have line
    breaks."""
    return "\n".join(clean(line, limit) for line in text.splitlines())


def cleaned(event: _Event, limit: int | None = MAX_SHOWN) -> _Event:
    """Return ``event`` with every text in it cleaned, wherever it came from."""
    changes = {}
    for name, value in msgspec.structs.asdict(event).items():
        if isinstance(value, str | tuple):
            fit = _fit(value, limit, lines=name in LINES)
            if fit != value:
                changes[name] = fit
    return msgspec.structs.replace(event, **changes) if changes else event


def _fit(value: Any, limit: int | None, *, lines: bool) -> Any:
    if isinstance(value, str):
        return clean_lines(value, limit) if lines else clean(value, limit)
    if isinstance(value, tuple):
        return tuple(_fit(each, limit, lines=lines) for each in value)
    return value
