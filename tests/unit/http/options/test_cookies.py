"""localtunnel.http.options.cookies: the Domain of a cookie stays with the tunnel's own host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.options.cookies import fit_clearing, fit_domain

HOST = b"demo.tunnels.example.com"


@pytest.mark.parametrize(
    "value",
    [
        b"a=b",
        b"a=b; Path=/; Secure; HttpOnly",
        b"a=b; Domain=demo.tunnels.example.com",
        b"a=b; domain=.Demo.Tunnels.Example.com",
        b"a=b; Domain=",
        b"a=b; Domain",
        b"a=b; Domain; Path=/",
        b"domain=tunnels.example.com",
        b"mydomain=tunnels.example.com; Path=/",
        b"a=domain=example.com",
        b"a=b; XDomain=example.com",
        b"a=b; Domain=other.tunnels.example.com",
        b"a=b; Domain=sub.demo.tunnels.example.com",
        b"a=b; Domain=ample.com",
        b"a=b; Domain=example.org",
    ],
)
def test_what_a_browser_may_judge_is_left_alone(value):
    assert fit_domain(value, HOST, None) is value


@pytest.mark.parametrize(
    "domain",
    [
        b"Domain=tunnels.example.com",
        b"domain=.tunnels.example.com",
        b"DOMAIN = Example.COM ",
        b"Domain=com",
        b"Domain=.com.",
        b"Domain=example.com.",
        b"\tDomain\t=\texample.com\t",
        b"Domain=demo.tunnels.example.com; Domain=example.com",
        b"Domain=example.com; Domain=demo.tunnels.example.com",
        b"Domain=example.com; Domain=",
        b"Path=/;domain=example.com;Secure",
        # Browsers decode these as they decode a host in a URL.
        b"Domain=%65xample.com",
        b"Domain=ex\xc3\xa4mple.com",
        b'Domain="example.com"',
        b"Domain=example.com:80",
        b"Domain=exam ple.com",
    ],
)
def test_a_cookie_for_more_than_the_host_is_dropped(domain):
    assert fit_domain(b"a=b; " + domain, HOST, None) is None


@pytest.mark.parametrize(
    ("value", "mapped"),
    [
        (b"a=b; Domain=app.internal; Path=/", b"a=b; Domain=demo.tunnels.example.com; Path=/"),
        (b"a=b;domain = .App.Internal", b"a=b; Domain=demo.tunnels.example.com"),
        (b"a=b; Domain=internal", b"a=b; Domain=demo.tunnels.example.com"),
        (
            b"a=b; Domain=app.internal; Domain=internal",
            b"a=b; Domain=demo.tunnels.example.com",
        ),
        (b"a=b; Domain=example.com", None),
        (b"a=b; Domain=app.internal; Domain=example.com", None),
        (b"a=b; Domain=internal; Path=/; Domain=app.internal", b"a=b; Path=/; Domain=demo.tunnels.example.com"),
        (b"a=b; Domain=internal; Domain=other.org", b"a=b; Domain=demo.tunnels.example.com; Domain=other.org"),
        (b"a=b; Domain=other.internal", b"a=b; Domain=other.internal"),
        (b"a=b; Path=/", b"a=b; Path=/"),
    ],
)
def test_what_the_upstream_sets_for_its_own_host_is_mapped_back(value, mapped):
    assert fit_domain(value, HOST, b"app.internal") == mapped


@given(st.text("aA.;=% \t-/domaincexplertus", max_size=60).map(str.encode))
def test_no_cookie_that_goes_on_has_a_domain_above_the_host(value):
    """Read as RFC 6265, section 5.2 has it."""
    left = fit_domain(b"a=b; " + value, HOST, None)
    for attribute in (left or b"").split(b";")[1:]:
        name, _, domain = attribute.partition(b"=")
        if name.strip(b" \t").lower() == b"domain":
            assert not HOST.endswith(b"." + domain.strip(b" \t").lower().strip(b".")) or not domain.strip(b" \t.")


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b'"cache"', b'"cache"'),
        (b'"cache","storage:shared" , "executionContexts"', b'"cache", "storage:shared", "executionContexts"'),
        (b'"cache", "cookies", "storage"', b'"cache", "storage"'),
        (b'"*"', b'"cache", "storage"'),
        (b'"cookies"', None),
        (b'"Cookies"', None),
        (b'"cook\\ies"', None),
        (b"cookies, *", None),
        (b'"cookies', None),
        (b'"a, "cookies", b"', None),
        (b"", None),
    ],
)
def test_of_what_is_to_be_cleared_cookies_are_left_out(value, left):
    assert fit_clearing(value) == left
