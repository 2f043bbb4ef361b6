"""The rules of one tunnel: which visitors it admits, and which fields it changes.

A rule is an option that the tunnel's client asked for (PROTOCOL.md, section 5.8). The
server applies all of them to every request. It refuses the tunnel rather than open it
without a rule that it cannot apply.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from localtunnel.errors import Forbidden, OptionRefused, Unauthorized
from localtunnel.http.message.fields import plain_name
from localtunnel.http.message.request import RequestHead
from localtunnel.http.options import values as option_values
from localtunnel.http.options.basic import Credentials
from localtunnel.http.options.cors import ALLOW, FIELDS, is_preflight, preflight_answer
from localtunnel.networks import Networks

_Raw = TypeVar("_Raw")
_Value = TypeVar("_Value")


class Options(Protocol):
    """What a client asks of its tunnel. ``protocol.options.Options`` is this, and says
    what each is.
    """

    @property
    def protect(self) -> str | None: ...
    @property
    def host_header(self) -> str | None: ...
    @property
    def request_header_add(self) -> Iterable[str]: ...
    @property
    def request_header_remove(self) -> Iterable[str]: ...
    @property
    def response_header_add(self) -> Iterable[str]: ...
    @property
    def allow_ip(self) -> Iterable[str]: ...
    @property
    def cors(self) -> bool: ...
    @property
    def server_timing(self) -> bool: ...


class Rules:
    """A tunnel's options as the edge and ``forward`` need them. Immutable."""

    __slots__ = (
        "_admitted",
        "_credentials",
        "cors",
        "host",
        "host_name",
        "request_drop",
        "request_lines",
        "response_cookies",
        "response_drop",
        "response_lines",
        "server_timing",
    )

    def __init__(self, key: bytes, options: Options) -> None:
        """``key`` is at least 16 random bytes, new for each tunnel.

        Raises OptionRefused, with a sentence that names the option, for a value that it
        cannot have.
        """
        self._credentials: Credentials | None = None
        if options.protect is not None:
            self._credentials = _read("protect", options.protect, lambda text: option_values.credentials(text, key))
        self._admitted: Networks = _read("allow_ip", options.allow_ip, option_values.networks)
        self.cors = options.cors
        self.server_timing = options.server_timing
        self.host: bytes | None = None
        """The value of the Host field that the upstream gets; None for the one that the
        visitor sent."""
        self.host_name: bytes | None = None
        """The host alone, in lower case."""
        if options.host_header is not None:
            self.host, self.host_name = _read("host_header", options.host_header, option_values.host)
        self._read_request_fields(options.request_header_add, options.request_header_remove)
        self._read_response_fields(options.response_header_add)

    def __repr__(self) -> str:
        guards = [self._credentials and "protect", self._admitted and "allow_ip"]
        return f"<Rules {' '.join(guard for guard in guards if guard) or 'unguarded'}>"

    def check(self, head: RequestHead, address: str) -> None:
        """Raise Forbidden or Unauthorized unless the visitor at ``address`` may send
        ``head``.

        A preflight needs no password, since a browser sends none with it;
        ``preflight_answer`` keeps it from the upstream.
        """
        self.check_address(address)
        if self._credentials is None or (self.cors and is_preflight(head)):
            return
        values = [value for name, value, _ in head.fields if name == b"authorization"]
        if not values:
            raise Unauthorized
        if len(values) > 1 or not self._credentials.match(values[0]):
            raise Unauthorized("The user name or the password is wrong.")

    def check_address(self, address: str) -> None:
        """Raise Forbidden unless the tunnel admits ``address``, which has no port."""
        if self._admitted and address not in self._admitted:
            raise Forbidden(f"This tunnel does not admit the address {address}.")

    def preflight_answer(self, head: RequestHead) -> bytes | None:
        """Return the server's response to ``head`` if it is a preflight and the tunnel
        has ``cors``.

        Call it after ``check``. The visitor's connection is closed afterwards, since
        ``head`` may have a body, which is not read.
        """
        return preflight_answer(head) if self.cors and is_preflight(head) else None

    def _read_request_fields(self, added: Iterable[str], removed: Iterable[str]) -> None:
        lines = _read("request_header_add", added, option_values.request_lines)
        drop = {plain_name(name) for name, _ in lines}
        drop |= _read("request_header_remove", removed, option_values.request_names)
        if self._credentials is not None:
            drop.add(b"authorization")
        if self.host is not None:
            drop.add(b"host")
        self.request_drop = frozenset(drop)
        """Plain names (``fields.plain_name``) of the visitor's fields that are
        dropped."""
        self.request_lines = b"".join(line for _, line in lines)
        if self.host is not None:
            self.request_lines = b"Host: " + self.host + b"\r\n" + self.request_lines

    def _read_response_fields(self, added: Iterable[str]) -> None:
        lines = _read("response_header_add", added, option_values.response_lines)
        # Each Set-Cookie is a cookie by itself: an added one replaces none.
        self.response_drop = frozenset(plain_name(name) for name, _ in lines) - {b"set-cookie"}
        """Plain names of the upstream's fields that are dropped."""
        self.response_cookies = tuple(line.partition(b":")[2].strip() for name, line in lines if name == b"set-cookie")
        """Values of added Set-Cookie fields; ``forward`` fits them as it does the
        upstream's."""
        self.response_lines = b"".join(line for name, line in lines if name != b"set-cookie")
        if self.cors:
            self.response_drop |= FIELDS
            self.response_lines += ALLOW


def _read(option: str, raw: _Raw, read: Callable[[_Raw], _Value]) -> _Value:
    try:
        return read(raw)
    except ValueError as error:
        raise OptionRefused(f"The option {option} cannot be accepted: {error}") from None
