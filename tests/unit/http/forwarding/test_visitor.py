"""localtunnel.http.forwarding.visitor: whom a request comes from, and who may say so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.forwarding.visitor import MAX_HOPS, Visitor, identify
from localtunnel.networks import Networks, parse_address

PROXIES = Networks.parse(["10.0.0.0/8", "2001:db8:1::/48"])
PROXY = "10.0.0.1"
STRANGER = "198.51.100.4"
VISITOR = "203.0.113.7"


def fields(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes, bytes]]:
    return [
        (name.lower().encode(), value.encode("latin-1"), f"{name}: {value}\r\n".encode("latin-1"))
        for name, value in pairs
    ]


def forwarded(*values: str) -> list[tuple[bytes, bytes, bytes]]:
    return fields(*(("X-Forwarded-For", value) for value in values))


def test_nobody_but_a_trusted_proxy_is_believed() -> None:
    said = fields(("X-Forwarded-For", VISITOR), ("X-Forwarded-Proto", "https"))
    assert identify(STRANGER, said, PROXIES) == Visitor(STRANGER, "http")
    assert identify(PROXY, said, Networks()) == Visitor(PROXY, "http")
    assert identify(PROXY, said, PROXIES) == Visitor(VISITOR, "https")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], PROXY),
        ([VISITOR], VISITOR),
        # The visitor's own invention stands to the left of what the proxies have added.
        (["127.0.0.1, 203.0.113.7"], VISITOR),
        (["10.9.9.9,203.0.113.7"], VISITOR),
        (["1.1.1.1, 203.0.113.7, 10.0.0.2, 10.0.0.3"], VISITOR),
        # Several fields are one list (RFC 9110, section 5.3).
        (["1.1.1.1", "203.0.113.7", "10.0.0.2"], VISITOR),
        # A visitor that is a proxy of ours itself.
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        # What is no address ends the walk.
        (["203.0.113.7, unknown"], PROXY),
        (["203.0.113.7, , 10.0.0.2"], "10.0.0.2"),
        (["203.0.113.7,"], PROXY),
        (["203.0.113.7, <script>, 10.0.0.2"], "10.0.0.2"),
        (["203.0.113.7, 010.0.0.2"], PROXY),
        (["203.0.113.7, 10.0.0"], PROXY),
        ([""], PROXY),
        # Ports and brackets, as some proxies write them.
        (["203.0.113.7:51234"], VISITOR),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["2001:DB8:0:0::7"], "2001:db8::7"),
        (["203.0.113.7, 2001:db8:1::5"], VISITOR),
        (["203.0.113.7, ::ffff:10.0.0.5"], VISITOR),
        (["::ffff:203.0.113.7"], VISITOR),
        (["203.0.113.7:"], PROXY),
        (["203.0.113.7:port"], PROXY),
        (["203.0.113.7:123456"], PROXY),
        (["[2001:db8::7"], PROXY),
        (["[2001:db8::7]443"], PROXY),
        (["[203.0.113.7]x"], PROXY),
        (["fe80::1%eth0"], PROXY),
        (["2001:db8::7" + "%" + "x" * 100_000], PROXY),
        (["\xff" * 100], PROXY),
    ],
)
def test_the_first_from_the_right_that_is_no_proxy_is_the_visitor(values: list[str], expected: str) -> None:
    assert identify(PROXY, forwarded(*values), PROXIES).address == expected


def test_only_so_many_addresses_are_read() -> None:
    chain = [VISITOR] + [f"10.1.0.{number}" for number in range(MAX_HOPS - 1)]
    assert identify(PROXY, forwarded(", ".join(chain)), PROXIES).address == VISITOR
    chain = [VISITOR] + [f"10.1.0.{number}" for number in range(MAX_HOPS)]
    assert identify(PROXY, forwarded(", ".join(chain)), PROXIES).address == "10.1.0.0"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http"], "http"),
        (["https, http"], "http"),
        (["http,https "], "https"),
        (["http", "https"], "https"),
        (["ws"], "default"),
        ([""], "default"),
        (["https\xff"], "default"),
        ([], "default"),
    ],
)
def test_the_scheme_is_what_the_nearest_proxy_says(values: list[str], expected: str) -> None:
    said = fields(*(("X-Forwarded-Proto", value) for value in values))
    assert identify(PROXY, said, PROXIES, "default").proto == expected


def test_other_fields_say_nothing() -> None:
    said = fields(
        ("Forwarded", f"for={VISITOR};proto=https"),
        ("X-Real-IP", VISITOR),
        ("X-Forwarded-Host", "other.example.com"),
        ("X-Forwarded-For-Real", VISITOR),
        ("X_Forwarded_For", VISITOR),
    )
    assert identify(PROXY, said, PROXIES) == Visitor(PROXY, "http")


values = st.text(st.characters(max_codepoint=255), max_size=60) | st.lists(
    st.ip_addresses().map(str) | st.sampled_from(["10.0.0.2", "", "unknown", "[::1]:80"]), max_size=20
).map(", ".join)


@given(st.lists(values, max_size=4))
def test_whatever_is_sent_an_address_comes_out(sent: list[str]) -> None:
    address = identify(PROXY, forwarded(*sent), PROXIES).address
    assert str(parse_address(address)) == address
