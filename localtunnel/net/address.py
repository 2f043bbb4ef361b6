"""Addresses as people write them, parsed once into typed values. Pure: nothing here
resolves a name or opens a socket.

============  ===========================================================  ==================
function      forms accepted                                               port 0
============  ===========================================================  ==================
parse_bind    PORT, :PORT, HOST:PORT, [IPV6]:PORT                          yes: any free port
parse_server  HOST, HOST:PORT, [IPV6], [IPV6]:PORT, http(s):// before one  no
parse_backend PORT, :PORT, HOST:PORT, [IPV6]:PORT                          no
parse_target  PORT, :PORT, HOST:PORT, [IPV6]:PORT, http:// before a host   no
parse_domain  a name without a port                                        none
parse_public  http:// or https:// before a name, and perhaps a port        no
============  ===========================================================  ==================

A host is an IPv4 address, an IPv6 address in brackets (RFC 3986 3.2.2) or a name of
letters, digits, hyphens and underscores; it comes back in lower case, IPv6 without its
brackets. Everything else raises ``AddressError``, whose message names the text and the
forms that are accepted.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from localtunnel.errors import AddressError, ConfigError
from localtunnel.protocol.limits import MAX_HOST, MAX_PORT

LOOPBACK = ("127.0.0.1", "::1")
"""This machine. A bare port or ``localhost`` as a target means both addresses: IPv4 is
tried first, since most local servers listen on it."""

HTTP_PORT = 80
"""The port of ``http://HOST`` (RFC 9110 4.2.1)."""

SCHEME_PORTS = {"http": HTTP_PORT, "https": 443}
"""The default port of each scheme (RFC 9110 4.2)."""

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)

_AUTHORITY = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^\[\]:]+))?(?::(?P<port>[0-9]{1,9}))?", re.ASCII)
# A host name has no underscores (RFC 1123 2.1), yet container networks resolve names
# that do.
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.ASCII)


class HostPort(NamedTuple):
    """Where to connect to. ``str()`` is the form with brackets round an IPv6 host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServerAddress(NamedTuple):
    """A server's frontend, with the scheme to ask it by. ``str()`` is the name that the
    server is known by."""

    host: str
    port: int
    scheme: str = "http"

    @property
    def authority(self) -> str:
        """Host and port, as a Host field has them."""
        return str(HostPort(self.host, self.port))

    def __str__(self) -> str:
        return self.authority if self.scheme == "http" else f"{self.scheme}://{self.authority}"


class Bind(NamedTuple):
    """Where to listen. ``host`` None leaves the choice to the program; ``port`` 0 means
    any free port."""

    host: str | None
    port: int


class Target(NamedTuple):
    """The upstream that the user named. ``hosts`` are tried in this order; ``text`` is
    shown to the user."""

    hosts: tuple[str, ...]
    port: int
    text: str

    def __str__(self) -> str:
        return self.text


class PublicUrl(NamedTuple):
    """Where visitors reach a server: the scheme, the host and the port that they
    use."""

    scheme: str
    host: str
    port: int


def parse_range(text: str) -> range:
    """Return the ports of ``FIRST-LAST``; an empty text is an empty range. Raises
    ConfigError."""
    if not text:
        return range(0)
    first, dash, last = text.partition("-")
    if dash and _PORT.match(first) and _PORT.match(last):
        ports = range(int(first), int(last) + 1)
        if ports and ports[-1] <= MAX_PORT:
            return ports
    raise ConfigError(f"{text!r} is not a range of ports; write it as FIRST-LAST, such as 20000-20999.")


def parse_bind(text: int | str) -> Bind:
    """Return where to listen. Raises ``AddressError``."""
    fault = _Fault(text, "an address to listen on", "PORT, :PORT, HOST:PORT or [IPV6]:PORT", lowest_port=0)
    host, port = _split(text, fault, lone_word_is_port=True)
    if port is None:
        raise fault.because("it has no port")
    return Bind(host, port)


def parse_server(text: str) -> ServerAddress:
    """Return the frontend's address; the scheme has a default port. Raises
    ``AddressError``."""
    fault = _Fault(text, "a server's address", "HOST, HOST:PORT, [IPV6]:PORT, http://HOST:PORT or https://HOST")
    scheme, authority = _scheme_of(text, fault, ("http", "https"))
    host, port = _split(authority, fault, lone_word_is_port=False)
    if host is None:
        raise fault.because("it has no host")
    return ServerAddress(host, _connectable(SCHEME_PORTS[scheme] if port is None else port, fault), scheme)


def parse_backend(text: int | str, default_host: str) -> HostPort:
    """Return the backend's address; a lone port is one of ``default_host``. Raises
    ``AddressError``."""
    fault = _Fault(text, "a backend's address", "PORT, HOST:PORT or [IPV6]:PORT")
    host, port = _split(text, fault, lone_word_is_port=True)
    if port is None:
        raise fault.because("it has no port")
    return HostPort(default_host if host is None else host, _connectable(port, fault))


def parse_target(text: int | str) -> Target:
    """Return the upstream; a lone port and ``localhost`` mean both loopback addresses.
    Raises ``AddressError``."""
    fault = _Fault(text, "a target", "PORT, HOST:PORT, [IPV6]:PORT or http://HOST:PORT")
    if isinstance(text, str) and text.lower().startswith("https://"):
        raise fault.because("the local server is spoken to in plain HTTP, so give a port where it does without TLS")
    authority = text if isinstance(text, int) else _scheme_of(text, fault, ("http",))[1]
    is_url = authority != text
    host, port = _split(authority, fault, lone_word_is_port=not is_url)
    if is_url and host is None:
        raise fault.because("it has no host")
    if port is None:
        if not is_url:
            raise fault.because("it has no port")
        port = HTTP_PORT
    _connectable(port, fault)
    if host is None or host.rstrip(".") == "localhost":
        return Target(LOOPBACK, port, f"localhost:{port}")
    return Target((host,), port, str(HostPort(host, port)))


def parse_domain(text: str) -> str:
    """Return the domain below which tunnels live, in lower case, without a final dot.
    Raises ``AddressError``."""
    fault = _Fault(text, "a domain", "a name such as tunnels.example.com, without a port")
    name = text.lower().removesuffix(".")
    if not name:
        raise fault.because("it is empty")
    if len(name) > MAX_HOST or not _NAME.fullmatch(name):
        raise fault.because("it is not a host name")
    if re.fullmatch(r"[0-9.]+", name, re.ASCII):
        raise fault.because("names cannot stand before a number")
    return name


def parse_public(text: str) -> PublicUrl:
    """Return where visitors reach the server, its host as ``parse_domain`` has it.
    Raises ``AddressError``."""
    fault = _Fault(text, "a public URL", "http:// or https://, the server's domain, and a port if it is unusual")
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in SCHEME_PORTS or not rest:
        raise fault.because("it does not begin with http:// or https://")
    host, port = _split(_bare_authority(rest, fault), fault, lone_word_is_port=False)
    if host is None:
        raise fault.because("it has no host")
    return PublicUrl(scheme, parse_domain(host), SCHEME_PORTS[scheme] if port is None else _connectable(port, fault))


class _Fault(NamedTuple):
    """Makes the error for one text, with the forms that would have been accepted.

    ``lowest_port`` is the lowest port that is accepted.
    """

    text: int | str
    what: str
    forms: str
    lowest_port: int = 1

    def because(self, reason: str) -> AddressError:
        return AddressError(f"{str(self.text)!r} is not {self.what}: {reason}. Write {self.forms}.")


def _scheme_of(text: str, fault: _Fault, schemes: tuple[str, ...]) -> tuple[str, str]:
    """Split a URL without a path into scheme and authority; a text that is not a URL is
    an authority."""
    if "://" not in text:
        return schemes[0], text
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in schemes:
        raise fault.because(f"only {' or '.join(f'{each}://' for each in schemes)} may stand before a host")
    return scheme.lower(), _bare_authority(rest, fault)


def _bare_authority(rest: str, fault: _Fault) -> str:
    """Return ``rest``, which follows a scheme, as an authority. Raises ``AddressError``
    if there is more."""
    authority = rest.removesuffix("/")
    if any(character in authority for character in "/?#"):
        raise fault.because("it may not carry a path, a query or a fragment")
    return authority


def _split(text: int | str, fault: _Fault, *, lone_word_is_port: bool) -> tuple[str | None, int | None]:
    """Return host and port; the one that the text lacks is None."""
    if isinstance(text, int):
        return None, _port(text, fault)
    if lone_word_is_port and text.isascii() and text.isdigit():
        return None, _port(text, fault)
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise fault.because(_why_unreadable(text))
    bracketed, plain, port = match["bracketed"], match["plain"], match["port"]
    if bracketed is None and plain is None and port is None:
        raise fault.because("it is empty")
    host = None
    if bracketed is not None:
        host = _ipv6(bracketed, fault)
    elif plain is not None:
        host = _ipv4_or_name(plain, fault)
    return host, None if port is None else _port(port, fault)


def _why_unreadable(text: str) -> str:
    if text.count(":") > 1 and "[" not in text:
        return "an IPv6 address stands in brackets"
    head, colon, tail = text.rpartition(":")
    if colon and not tail:
        return "the port after the colon is missing"
    if colon and "]" not in tail and "[" not in head:
        return f"{tail!r} is not a port number"
    return "it has characters in places where an address has none"


def _port(port: int | str, fault: _Fault) -> int:
    # int() itself raises ValueError for a text of thousands of digits.
    number = int(port) if isinstance(port, int) or len(port.lstrip("0")) <= len(str(MAX_PORT)) else -1
    if not 0 <= number <= MAX_PORT:
        raise fault.because(f"a port is a number from {fault.lowest_port} to {MAX_PORT}")
    return number


def _connectable(port: int, fault: _Fault) -> int:
    if port == 0:
        raise fault.because("nothing can be connected to on port 0")
    return port


def _ipv6(host: str, fault: _Fault) -> str:
    try:
        return str(IPv6Address(host))
    except AddressValueError:
        raise fault.because(f"{host!r} in the brackets is not an IPv6 address") from None


def _ipv4_or_name(host: str, fault: _Fault) -> str:
    name = host.lower()
    if re.fullmatch(r"[0-9.]+", name, re.ASCII):
        try:
            return str(IPv4Address(name))
        except AddressValueError:
            raise fault.because(f"{host!r} is neither an IPv4 address nor a name") from None
    if len(name) > MAX_HOST or not _NAME.fullmatch(name):
        raise fault.because(f"{host!r} is not a host")
    return name
