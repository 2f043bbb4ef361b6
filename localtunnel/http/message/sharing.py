"""Whether a connection is one person's: logins of a whole connection, and signs of a
proxy.

NTLM and Negotiate log in a connection and not a request (RFC 4559, section 6): the
sender of the next request on it is taken for the person who logged in. A proxy may send
requests of many people on one connection. A trusted proxy is known; any other gives
itself away by the fields that it adds, if it adds any.
"""

import re

from localtunnel.http.message.fields import Field, plain_name
from localtunnel.http.message.spoofable import is_claim

LOGIN_FIELDS = frozenset({b"authorization", b"proxy-authorization"})
CHALLENGE_FIELDS = frozenset({b"www-authenticate", b"proxy-authenticate", b"authentication-info"})
"""Where a request and a response name a scheme."""

_SCHEME = re.compile(rb"\b(?:ntlm|negotiate|kerberos|credssp)\b", re.IGNORECASE)
"""The schemes that log in a connection. They count anywhere in a value: an upstream may
read further than the first word, for example up to the second element of a list."""

_SIGNS = frozenset(
    {
        # RFC 9110, sections 7.6.2 and 7.6.3; RFC 8586; and what a request to a proxy
        # carries.
        b"max-forwards",
        b"via",
        b"cdn-loop",
        b"proxy-authorization",
        b"proxy-connection",
        # Marks of proxies, balancers and networks, besides claims about the visitor.
        b"akamai-origin-hop",
        b"cf-ray",
        b"fastly-ff",
        b"surrogate-capability",
        b"x-amz-cf-id",
        b"x-amzn-trace-id",
        b"x-arr-log-id",
        b"x-azure-ref",
        b"x-bluecoat-via",
        b"x-cloud-trace-context",
        b"x-request-start",
        b"x-varnish",
    }
)


def logs_in(found: dict[bytes, list[bytes]], names: frozenset[bytes]) -> bool:
    """Say whether a field of ``names`` in ``found`` has a scheme that logs in a
    connection.
    """
    return any(_SCHEME.search(value) for name in names for value in found.get(name, ()))


def has_intermediary(version: tuple[int, int], target: bytes, fields: list[Field]) -> bool:
    """Say whether a request shows any sign of a proxy on its way.

    HTTP/1.0 counts as one: proxies send it, and people's programs have not done so for
    long. So does a target in absolute form, which is for proxies (RFC 9112, section
    3.2.2).
    """
    if version == (1, 0) or not target.startswith((b"/", b"*")):
        return True
    return any(plain_name(name) in _SIGNS or is_claim(name) for name, _, _ in fields)
