"""localtunnel.networks: which addresses are in which networks, and what is no network."""

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.networks import MAX_REMEMBERED, MAX_TEXT, Networks, parse_address


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["0.0.0.0/0"], "203.0.113.9", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "2001:db8::1", True),
        (["::/0"], "203.0.113.9", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["::1"], "::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        # Both forms of an IPv4 address are one, on either side.
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:a01:203", True),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "11.1.2.3", False),
        # Several lengths, several of one length.
        (["10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "198.51.100.0/24"], "198.51.100.200", True),
        (["10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "198.51.100.0/24"], "172.32.0.1", False),
        ([], "10.0.0.1", False),
        # What is no address is nowhere.
        (["0.0.0.0/0", "::/0"], "", False),
        (["0.0.0.0/0", "::/0"], "10.0.0", False),
        (["0.0.0.0/0", "::/0"], "010.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "localhost", False),
        (["0.0.0.0/0", "::/0"], "10.0.0.1\n", False),
    ],
)
def test_what_is_inside(networks: list[str], address: str, inside: bool) -> None:
    parsed = Networks.parse(networks)
    assert (address in parsed) is inside
    # The second time the answer is a remembered one.
    assert (address in parsed) is inside


def test_an_empty_set_is_false() -> None:
    assert not Networks()
    assert not Networks.parse([])
    assert Networks.parse(["::1"])


def test_it_shows_what_it_has_once() -> None:
    assert str(Networks.parse(["10.0.0.0/8", "192.0.2.7", "::ffff:10.0.0.0/104"])) == "10.0.0.0/8, 192.0.2.7/32"


FORMS = "write it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"'' is not an IP address or network; {FORMS}"),
        ("example.com", f"'example.com' is not an IP address or network; {FORMS}"),
        ("10.0.0.0/255.0.0.0", f"'10.0.0.0/255.0.0.0' is not an IP address or network; {FORMS}"),
        ("10.0.0.0/", f"'10.0.0.0/' is not an IP address or network; {FORMS}"),
        ("10.0.0.0/-1", f"'10.0.0.0/-1' is not an IP address or network; {FORMS}"),
        ("10.0.0.0/8\n", f"'10.0.0.0/8\\n' is not an IP address or network; {FORMS}"),
        (" 10.0.0.0/8", f"' 10.0.0.0/8' is not an IP address or network; {FORMS}"),
        ("fe80::1%eth0", f"'fe80::1%eth0' is not an IP address or network; {FORMS}"),
        ("10.0.0", f"'10.0.0' is not an IP address or network; {FORMS}"),
        ("010.0.0.0/8", f"'010.0.0.0/8' is not an IP address or network; {FORMS}"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not a network; its prefix length is a number from 0 to 32."),
        ("2001:db8::/129", "'2001:db8::/129' is not a network; its prefix length is a number from 0 to 128."),
        (
            "10.0.0.1/8",
            "'10.0.0.1/8' has bits right of its prefix; write 10.0.0.0/8 for the network, or 10.0.0.1 for the address.",
        ),
    ],
)
def test_what_is_no_network(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        Networks.parse(["10.0.0.0/8", text])


def test_what_is_remembered_is_bounded() -> None:
    networks = Networks.parse(["10.0.0.0/8"])
    for number in range(2 * MAX_REMEMBERED + 7):
        assert str(ip_address((11 << 24) + number)) not in networks
        assert len(networks._remembered) <= MAX_REMEMBERED


def test_a_long_text_is_not_remembered() -> None:
    networks = Networks.parse(["fe80::/10"])
    long = "fe80::1%" + "x" * MAX_TEXT
    assert long not in networks
    assert not networks._remembered


addresses = st.ip_addresses().map(str)
networks = st.tuples(st.ip_addresses(), st.integers(0, 128)).map(
    lambda pair: str(ip_network((pair[0], min(pair[1], pair[0].max_prefixlen)), strict=False))
)


@given(st.lists(networks, max_size=6), addresses)
def test_it_agrees_with_ipaddress(texts: list[str], text: str) -> None:
    address = parse_address(text)
    assert address is not None
    plain = [ip_network(network) for network in texts if not network.startswith("::ffff:")]
    parsed = Networks.parse([str(network) for network in plain])
    assert (text in parsed) is any(address in network for network in plain)


@given(st.text(max_size=80))
def test_no_text_breaks_it(text: str) -> None:
    assert isinstance(text in Networks.parse(["10.0.0.0/8", "2001:db8::/32"]), bool)
    try:
        Networks.parse([text])
    except ValueError:
        return
    assert parse_address(text.partition("/")[0]) is not None
