"""The values of a tunnel's options, checked by the client and again by the server.

Each function returns the value in the form that ``rules`` uses. It raises ValueError
with the end of a sentence; the caller puts the option's name, or the flag's, before it.
"""

import re
from collections.abc import Callable, Iterable

from localtunnel.errors import BadRequest
from localtunnel.http.grammar import TOKEN
from localtunnel.http.message import spoofable
from localtunnel.http.message.authority import parse_authority
from localtunnel.http.message.fields import FRAMING, HOP_BY_HOP, OWN_PREFIX, PROXY_ORDERS, plain_name
from localtunnel.http.options.basic import Credentials
from localtunnel.http.options.cookies import fit_clearing
from localtunnel.networks import Networks
from localtunnel.protocol.limits import MAX_TEXT

PRESERVE, REWRITE = "preserve", "rewrite"
"""What ``--host-header`` takes besides a value. Neither goes over the wire: the first
is the default, and the second stands for the upstream's address, which only the client
knows."""

_TOKEN = re.compile(TOKEN.decode())
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_CHECKING_KEY = b"only to look at the form"


def credentials(text: str, key: bytes = _CHECKING_KEY) -> Credentials:
    """Read ``protect``: ``user:password``. No error repeats any of it."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"user and password together have {len(text)} characters; at most {MAX_TEXT} are accepted.")
    return Credentials(text, key)


def host(text: str) -> tuple[bytes, bytes]:
    """Read ``host_header``: the whole value, and the host in it in lower case, without
    its port.
    """
    if text in (PRESERVE, REWRITE):
        raise ValueError(f"{text!r} is for lt-client; a server is told the host itself, or nothing.")
    try:
        value = text.encode("ascii")
        name, _ = parse_authority(value, "the host")
    except (UnicodeEncodeError, BadRequest):
        name = ""
    if not name:
        # Nor is a lone dot: the final dot of a rooted name does not count.
        raise ValueError(f"{text!r} is not a host; write HOST or HOST:PORT.")
    return value, name.encode("ascii")


def host_header(text: str) -> None:
    """Check what ``lt-client`` takes: a host, ``preserve`` or ``rewrite``."""
    if not text:
        raise ValueError(f"it is empty; write {PRESERVE}, {REWRITE}, HOST or HOST:PORT.")
    if text not in (PRESERVE, REWRITE):
        host(text)


def request_lines(texts: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Read ``request_header_add``: the name in lower case and the whole line, for
    each.
    """
    return [_line(text, _request_name) for text in texts]


def request_names(texts: Iterable[str]) -> frozenset[bytes]:
    """Read ``request_header_remove``: the names as ``plain_name`` has them."""
    return frozenset(plain_name(_request_name(text)) for text in texts)


def response_lines(texts: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Read ``response_header_add``, as ``request_lines`` does."""
    lines = [_line(text, _response_name) for text in texts]
    for name, line in lines:
        value = line.partition(b":")[2].strip()
        if name == b"clear-site-data" and fit_clearing(value) != value:
            raise ValueError(
                f"{line.decode().strip()} would clear the cookies of other tunnels, or is not a plain list; write each "
                'kind in double quotes, and neither "cookies" nor "*".'
            )
    return lines


def networks(texts: Iterable[str]) -> Networks:
    """Read ``allow_ip``."""
    return Networks.parse(texts)


def _line(text: str, check: Callable[[str], bytes]) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f'{text!r} has no colon; write a field as "Name: value".')
    value = value.strip(" \t")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name!r} has a character that is not printable ASCII; remove it.")
    return check(name), f"{name}: {value}\r\n".encode("ascii")


def _name(text: str) -> bytes:
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a field; use letters, digits and hyphens.")
    return text.lower().encode("ascii")


def _request_name(text: str) -> bytes:
    name = _name(text)
    if spoofable.is_claim(name):
        raise ValueError(f"{text} identifies the visitor; only the server may set it.")
    if name == b"host":
        raise ValueError("Host cannot be changed here; use --host-header.")
    return _end_to_end(name, text)


def _response_name(text: str) -> bytes:
    name = _name(text)
    if plain_name(name).startswith(OWN_PREFIX):
        raise ValueError(f"{text} is reserved for the server.")
    if plain_name(name) in PROXY_ORDERS:
        raise ValueError(f"{text} is an order to a proxy, and a proxy in front of the server is not yours.")
    return _end_to_end(name, text)


def _end_to_end(name: bytes, text: str) -> bytes:
    if plain_name(name) in HOP_BY_HOP | FRAMING:
        raise ValueError(f"{text} concerns the connection or the message's end; only the server may set it.")
    return name
