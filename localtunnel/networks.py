"""A set of IP networks, for the proxies that a server trusts and for the visitors that a
tunnel admits.

An IPv4 address may arrive in its IPv6 form ``::ffff:a.b.c.d`` (RFC 4291, section
2.5.5.2): both forms of an address and of a network are the same one here.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from localtunnel.errors import AddressError

MAX_REMEMBERED = 4096
"""Addresses whose answer is remembered, about 150 bytes each: reading one takes twenty
times as long as finding it."""

MAX_TEXT = 64
"""Characters of an address: IPv6 takes 45 at most, and the zone that may follow it names
an interface, in 15."""

IPV6_PREFIX = 64
"""Bits of an IPv6 address that say who it is: a customer has all addresses below them
(RFC 6177, RFC 4291 2.5.4)."""

Network = IPv4Network | IPv6Network

_NETWORK = re.compile(r"(?P<address>[0-9A-Fa-f:.]+)(?:/[0-9]{1,3})?", re.ASCII)
_MAPPED_PREFIX = 96


class Networks:
    """Which addresses belong to any of some networks: ``address in networks``. An empty
    one is false."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(dict.fromkeys(_plain_network(network) for network in networks))
        # One look for every length of a prefix is enough, however many networks have
        # it.
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for network in self._networks:
            host_bits = network.max_prefixlen - network.prefixlen
            firsts = self._by_length.setdefault((network.version, host_bits), set())
            firsts.add(int(network.network_address) >> host_bits)
        self._remembered: dict[str, bool] = {}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Networks":
        """Return the networks that ``texts`` name, each an address or an address and a
        prefix length (RFC 4632).

        Raises ``ValueError`` with a sentence for a text that is neither, such as one
        with bits right of its prefix: ``10.0.0.1/8`` may have been meant as one address
        or as the whole network.
        """
        return cls(_exact_network(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Say whether ``address`` is within one of the networks; a text that is no
        address never is."""
        if not self._networks or len(address) > MAX_TEXT:
            return False
        known = self._remembered.get(address)
        if known is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            known = self._remembered[address] = self._find(address)
        return known

    def __str__(self) -> str:
        return ", ".join(str(network) for network in self._networks)

    def _find(self, text: str) -> bool:
        address = parse_address(text)
        if address is None:
            return False
        version, number = address.version, int(address)
        return any(
            length_of == version and number >> host_bits in firsts
            for (length_of, host_bits), firsts in self._by_length.items()
        )


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that ``text`` is, an IPv4-mapped one as IPv4 and without a
    zone (RFC 4007), or None."""
    try:
        return plain(ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return ``address``, an IPv4-mapped one as the IPv4 address it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> Network:
    """Return the address or the network (``203.0.113.0/24``) that ``text`` names.
    Raises AddressError."""
    try:
        return _plain_network(ip_network(text, strict=False))
    except ValueError:
        forms = "Write one such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/64."
        raise AddressError(f"{text!r} is not an IP address or network. {forms}") from None


@lru_cache(maxsize=MAX_REMEMBERED)
def network_of(host: str) -> str:
    """Return what stands for one customer: an IPv4 address, or of an IPv6 address its
    first 64 bits as a network."""
    if ":" not in host:
        return host
    address = parse_address(host)
    if not isinstance(address, IPv6Address):
        return host if address is None else str(address)
    host_bits = address.max_prefixlen - IPV6_PREFIX
    return f"{IPv6Address(int(address) >> host_bits << host_bits)}/{IPV6_PREFIX}"


def _exact_network(text: str) -> Network:
    match = _NETWORK.fullmatch(text)
    if match is None or parse_address(match["address"]) is None:
        raise ValueError(
            f"{text!r} is not an IP address or network; write it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32."
        )
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        longest = 128 if ":" in text else 32
        raise ValueError(f"{text!r} is not a network; its prefix length is a number from 0 to {longest}.") from None
    if network.network_address != ip_address(match["address"]):
        raise ValueError(
            f"{text!r} has bits right of its prefix; write {network} for the network, or {match['address']} for the"
            " address."
        )
    return network


def _plain_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network
