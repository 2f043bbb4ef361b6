"""Who this client is, for the server's log and for telling two clients of one laptop apart."""

import getpass
import platform
import secrets

from localtunnel.protocol.limits import MAX_CLIENT_ID


def user_at_host() -> str:
    """Return ``user@host;System``, printable and within the protocol's limit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    text = f"{user}@{platform.node() or 'unknown'};{platform.system()}"
    return "".join(char if char.isprintable() else "?" for char in text)[: MAX_CLIENT_ID // 2]


def new_instance() -> str:
    """Return a name for this run of the client, such as nobody else has."""
    return secrets.token_hex(8)
