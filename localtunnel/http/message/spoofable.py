"""The fields in which a request claims another origin, or another destination.

Reverse proxies write them, applications believe them, and a visitor can write them as
well. Unless the operator has named proxies in front of it, this server is the first
that a request reaches. So these fields of a visitor are dropped before the true ones
are added (``forwarding.forward``). Names are in the form of ``fields.plain_name``:
``X_Real_IP`` and ``X.Real.IP`` are ``X-Real-IP`` to many applications.
"""

from localtunnel.http.message.fields import OWN_PREFIX, plain_name

PREFIXES = (b"x-forwarded", b"x-original-", OWN_PREFIX)
"""``X-Forwarded-For``, ``-Proto``, ``-Host``, ``-Port``, ``-Prefix``, ``-Server``,
``-Ssl`` and others that begin so; ``X-Original-Forwarded-For``, ``-Host``, ``-URL``;
and this program's own names."""

NAMES = frozenset(
    {
        # RFC 7239, and what there was before it.
        b"forwarded",
        b"forwarded-for",
        b"forwarded-host",
        b"forwarded-proto",
        # The visitor's address, as various proxies, networks and clouds write it.
        b"client-ip",
        b"remote-addr",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-originating-ip",
        b"x-proxyuser-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-true-client-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-pseudo-ipv4",
        b"do-connecting-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"proxy-client-ip",
        b"wl-proxy-client-ip",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-envoy-external-address",
        b"x-nf-client-connection-ip",
        b"x-vercel-forwarded-for",
        # The scheme, the host or the path that the visitor is said to have used.
        b"cf-visitor",
        b"front-end-https",
        b"x-host",
        b"x-http-host-override",
        b"x-real-port",
        b"x-rewrite-url",
        b"x-scheme",
        b"x-url-scheme",
        # CGI turns this one into HTTP_PROXY, in which many libraries look for the proxy
        # that they are to use (httpoxy).
        b"proxy",
    }
)


def is_claim(name: bytes) -> bool:
    """Say whether a field of this ``name`` is one of them."""
    plain = plain_name(name)
    return plain in NAMES or plain.startswith(PREFIXES)
