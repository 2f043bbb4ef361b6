"""Checks the options that a client asks for against what this server can enforce."""

import secrets
from fnmatch import fnmatchcase

from localtunnel.errors import OptionRefused
from localtunnel.http.message.refusal import shown
from localtunnel.http.options.cookies import fit_domain
from localtunnel.http.options.rules import Rules
from localtunnel.protocol import options
from localtunnel.protocol.messages import ControlRequest
from localtunnel.protocol.options import Options
from localtunnel.server.config import ServerConfig

KEY_BYTES = 32
"""The size of the random key under which a tunnel's password is hashed: that of the
digest."""


def settle(config: ServerConfig, request: ControlRequest) -> tuple[Options, Rules | None]:
    """Return the options in ``request``, and the rules made of them, if there are any.

    Raises OptionRefused for an option that is invalid, or that this server cannot
    enforce.
    """
    asked = options.of_request(request)
    if request.domain is not None and request.kind != "tcp" and not _may_have(config, request.domain):
        raise OptionRefused(
            f"This server does not allow the host {request.domain!r}; ask its operator, or leave it out."
        )
    if not asked.names:
        return asked, None
    if config.edge == "join" and request.kind != "tcp":
        raise OptionRefused(
            f'This server cannot enforce the option --{asked.names[0].replace("_", "-")}: it runs with edge = "join" '
            "and reads only the first request of a connection. Leave the option out, or ask the server's operator for "
            'edge = "http".'
        )
    rules = Rules(secrets.token_bytes(KEY_BYTES), asked)
    hosts = [f"{request.name}.{config.domain}", *([request.domain] if request.domain is not None else [])]
    for value in rules.response_cookies:
        if any(fit_domain(value, host.lower().encode("latin-1", "replace"), rules.host_name) is None for host in hosts):
            raise OptionRefused(
                f"The option response_header_add cannot be accepted: the cookie {shown(value)} would go to other "
                "tunnels as well; leave its Domain out."
            )
    return asked, rules


def _may_have(config: ServerConfig, host: str) -> bool:
    """Say whether the operator allows ``host``, outside the server's own domain."""
    wanted = host.lower().rstrip(".")
    return any(fnmatchcase(wanted, pattern.lower()) for pattern in config.custom_hosts)
