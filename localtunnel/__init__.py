"""Localtunnel: a server on the internet's side and a client on a laptop, and a local
web server gets a public address.

The public API is what ``__all__`` names. Importing this package patches nothing and
loads nothing: each name is looked up in its module when it is first used, so that a
program that needs only the client never loads the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localtunnel.client.app import Client as Client
    from localtunnel.client.config import ClientConfig as ClientConfig
    from localtunnel.server.app import Server as Server
    from localtunnel.server.config import ServerConfig as ServerConfig

__version__ = "0.3.0"

__all__ = ["Client", "ClientConfig", "Server", "ServerConfig", "__version__"]

_MODULES = {
    "Client": "localtunnel.client.app",
    "ClientConfig": "localtunnel.client.config",
    "Server": "localtunnel.server.app",
    "ServerConfig": "localtunnel.server.config",
}


def __getattr__(name: str) -> object:
    """Loads a name of the public API from its module (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
