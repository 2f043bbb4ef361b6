"""The settings of both commands, with their flags and the forms of their values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from localtunnel.client.config import ClientConfig
from localtunnel.errors import ConfigError, NameInvalid
from localtunnel.http.options import values as option_values
from localtunnel.net.address import (
    parse_backend,
    parse_bind,
    parse_domain,
    parse_public,
    parse_range,
    parse_server,
    parse_target,
)
from localtunnel.net.tls.keys import parse_fingerprint
from localtunnel.networks import Networks
from localtunnel.protocol import names
from localtunnel.server.config import ServerConfig

Config = TypeVar("Config", bound=msgspec.Struct)


class Setting(NamedTuple):
    """A key that flags, and perhaps a variable, can set.

    ``present`` is the value of a flag without a value, or of a word that is a command.
    """

    key: str
    flags: tuple[str, ...]
    variable: str | None = None
    present: bool | str = True


@dataclass(frozen=True)
class Schema(Generic[Config]):
    """The settings of a command: the struct, its flags and variables, and checks beyond
    its types.

    ``forms`` has a callable for each key whose value has a form of its own; it raises
    ``ConfigError`` or ``ValueError`` for others. A key within a table is written
    ``table.key``.
    """

    struct: type[Config]
    settings: tuple[Setting, ...]
    forms: Mapping[str, Callable[[Any], object]]


def _check_names(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            names.check(text)
        except NameInvalid as error:
            raise ConfigError(str(error)) from None


SERVER = Schema(
    ServerConfig,
    settings=(
        Setting("domain", ("--domain",)),
        Setting("frontend", ("--frontend",)),
        Setting("backend", ("--backend",)),
        Setting("edge", ("--edge",)),
        Setting("public_url", ("--public-url",)),
        Setting("tcp_ports", ("--tcp-ports",)),
        Setting("pool_size", ("--pool-size",)),
        Setting("grace", ("--grace",)),
        Setting("log_level", ("--log-level",), "LT_LOG_LEVEL"),
        Setting("log_format", ("--log-format",)),
    ),
    forms={
        "domain": parse_domain,
        "frontend": parse_bind,
        "backend": parse_bind,
        "public_url": parse_public,
        "trusted_proxies": Networks.parse,
        "tcp_ports": parse_range,
        "reserved_names": _check_names,
        "limits.exempt": Networks.parse,
    },
)

CLIENT = Schema(
    ClientConfig,
    settings=(
        Setting("kind", ("http",), present="http"),
        Setting("kind", ("tcp",), present="tcp"),
        Setting("target", ("<target>",)),
        Setting("remote_port", ("--remote-port",)),
        Setting("server", ("--server",), "LT_SERVER"),
        Setting("name", ("--name", "--subdomain"), "LT_NAME"),
        Setting("backend", ("--backend",)),
        Setting("domain", ("--domain",)),
        Setting("protect", ("--protect",), "LT_PROTECT"),
        Setting("allow_ip", ("--allow-ip",)),
        Setting("host_header", ("--host-header",)),
        Setting("request_header_add", ("--request-header-add",)),
        Setting("request_header_remove", ("--request-header-remove",)),
        Setting("response_header_add", ("--response-header-add",)),
        Setting("cors", ("--cors",)),
        Setting("server_timing", ("--server-timing",)),
        Setting("takeover", ("--takeover",)),
        Setting("insecure", ("--insecure",)),
        Setting("legacy", ("--legacy",)),
        Setting("fingerprint", ("--fingerprint",)),
        Setting("token_file", ("--token-file",), "LT_TOKEN_FILE"),
        Setting("retry", ("--no-retry",), present=False),
        Setting("log_level", ("--log-level",), "LT_LOG_LEVEL"),
    ),
    forms={
        "target": parse_target,
        "server": parse_server,
        "backend": lambda text: parse_backend(text, default_host="localhost"),
        "fingerprint": parse_fingerprint,
        "domain": parse_domain,
        "protect": option_values.credentials,
        "allow_ip": option_values.networks,
        "host_header": option_values.host_header,
        "request_header_add": option_values.request_lines,
        "request_header_remove": option_values.request_names,
        "response_header_add": option_values.response_lines,
    },
)

HTTP_ONLY = (
    "domain",
    "protect",
    "host_header",
    "request_header_add",
    "request_header_remove",
    "response_header_add",
    "cors",
    "server_timing",
)
"""Keys that a TCP tunnel cannot have, since the server does not read its visitors'
bytes."""
