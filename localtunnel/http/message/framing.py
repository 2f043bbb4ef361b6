"""Where a head says that its message ends, and whether its connection stays.

The rules are the same for requests and responses. A message whose end two readers might
see in two places is refused, and never repaired (RFC 9112, sections 6.1 to 6.3).
"""

from localtunnel.http.message.refusal import Kind, shown
from localtunnel.protocol import limits

WATCHED_FIELDS = frozenset({b"connection", b"content-length", b"transfer-encoding", b"upgrade"})
"""The fields that the functions here look at."""

NO_OPTIONS: frozenset[bytes] = frozenset()
_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length: a signed 64-bit number holds them, so that no upstream's
counter overflows."""

_USUAL_OPTIONS = {
    value: frozenset({value.lower()}) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"Upgrade")
}


def read_length(found: dict[bytes, list[bytes]], version: tuple[int, int], kind: Kind) -> tuple[int | None, bool]:
    """Return the Content-Length, None without one, and whether the body is chunked.

    Raises the error of ``kind`` for both at once, for several or malformed lengths, and
    for any Transfer-Encoding but a single ``chunked`` of HTTP/1.1.
    """
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        _check_coding(codings, lengths, version, kind)
        return None, True
    if lengths is None:
        return None, False
    if len(lengths) > 1:
        kind.refuse(f"The {kind.noun} has {len(lengths)} Content-Length fields; exactly one is allowed.")
    if not lengths[0].isdigit() or len(lengths[0]) > _MAX_LENGTH_DIGITS:
        kind.refuse(
            f"The {kind.noun}'s Content-Length is {shown(lengths[0])}; it has to be a plain decimal number of bytes."
        )
    return int(lengths[0]), False


def _check_coding(codings: list[bytes], lengths: list[bytes] | None, version: tuple[int, int], kind: Kind) -> None:
    if lengths is not None:
        kind.refuse(
            f"The {kind.noun} has both Transfer-Encoding and Content-Length; send only one of them (RFC 9112, 6.3)."
        )
    if version == (1, 0):
        kind.refuse(f"The {kind.noun} uses Transfer-Encoding, which HTTP/1.0 does not have; use HTTP/1.1.")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        kind.refuse(
            f"The {kind.noun}'s Transfer-Encoding is {shown(b', '.join(codings))}; only a single "
            '"chunked" is accepted.'
        )


def read_options(values: list[bytes] | None, kind: Kind) -> frozenset[bytes]:
    """Return the Connection options in lower case (RFC 9110, section 7.6.1).

    An option that is not a token names no field, and does no harm. Raises the error of
    ``kind`` for more options than a head may have fields: each takes fifty times its
    size in memory.
    """
    if values is None:
        return NO_OPTIONS
    if len(values) == 1:
        usual = _USUAL_OPTIONS.get(values[0])
        if usual is not None:
            return usual
    options = _elements(values)
    if len(options) > limits.MAX_HEAD_FIELDS:
        kind.refuse(
            f"The {kind.noun} has {len(options)} options in Connection; at most {limits.MAX_HEAD_FIELDS} are accepted."
        )
    return options


def _elements(values: list[bytes]) -> frozenset[bytes]:
    elements = b",".join(values).lower().split(b",")
    return frozenset(stripped for element in elements if (stripped := element.strip(b" \t")))


def keeps_alive(options: frozenset[bytes], version: tuple[int, int]) -> bool:
    """Return whether the sender keeps the connection open (RFC 9112, section 9.3)."""
    return b"close" not in options and (version == (1, 1) or b"keep-alive" in options)


def offers_websocket(found: dict[bytes, list[bytes]], options: frozenset[bytes]) -> bool:
    """Return whether a request's Connection and Upgrade offer WebSocket."""
    upgrades = found.get(b"upgrade")
    return upgrades is not None and b"upgrade" in options and b"websocket" in _elements(upgrades)


def is_websocket(found: dict[bytes, list[bytes]], options: frozenset[bytes]) -> bool:
    """Return whether a response's Connection and Upgrade change to WebSocket only."""
    upgrades = found.get(b"upgrade")
    return upgrades is not None and b"upgrade" in options and [value.lower() for value in upgrades] == [b"websocket"]
