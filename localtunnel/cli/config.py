"""The settings of both commands: flag > environment > file > default, each checked where it came from.

A wrong value on the command line is a ``UsageError`` that names the flag; a wrong one in the environment or in a file
is a ``ConfigError`` that names the variable, or the file, the table and the key. An empty variable counts as unset.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from localtunnel.cli import check
from localtunnel.client.config import ClientConfig
from localtunnel.errors import AddressError, ConfigError, LocaltunnelError, UsageError
from localtunnel.net.address import parse_backend, parse_bind, parse_domain, parse_server, parse_target
from localtunnel.server.config import ServerConfig

FILE_VARIABLE = "LT_CONFIG"
CLIENT_FILE = Path("localtunnel", "client.toml")
"""Where the client looks below ``$XDG_CONFIG_HOME`` (or ``~/.config``) when no file is named."""

MAX_FILE = 1024 * 1024
"""Bytes of a settings file: a real one has a few thousand, and a device or a wrong file is not to be read for ever."""

_Config = TypeVar("_Config", bound=msgspec.Struct)
_Complain = Callable[[tuple[str, ...], str], LocaltunnelError]


class Setting(NamedTuple):
    """A key that flags and perhaps a variable can give. ``present`` is what a flag without a value stands for."""

    key: str
    flags: tuple[str, ...]
    variable: str | None = None
    present: bool = True


@dataclass(frozen=True)
class Schema(Generic[_Config]):
    """What a command can be told: the struct, what stands outside its file, and the addresses among its values."""

    struct: type[_Config]
    settings: tuple[Setting, ...]
    addresses: Mapping[str, Callable[[Any], object]]


SERVER = Schema(
    ServerConfig,
    settings=(
        Setting("domain", ("--domain",)),
        Setting("frontend", ("--frontend",)),
        Setting("backend", ("--backend",)),
        Setting("pool_size", ("--pool-size",)),
        Setting("grace", ("--grace",)),
        Setting("log_level", ("--log-level",), "LT_LOG_LEVEL"),
        Setting("log_format", ("--log-format",)),
    ),
    addresses={"domain": parse_domain, "frontend": parse_bind, "backend": parse_bind},
)

CLIENT = Schema(
    ClientConfig,
    settings=(
        Setting("target", ("<target>",)),
        Setting("server", ("--server",), "LT_SERVER"),
        Setting("name", ("--name", "--subdomain"), "LT_NAME"),
        Setting("backend", ("--backend",)),
        Setting("retry", ("--no-retry",), present=False),
        Setting("log_level", ("--log-level",), "LT_LOG_LEVEL"),
    ),
    addresses={
        "target": parse_target,
        "server": parse_server,
        "backend": lambda text: parse_backend(text, default_host="localhost"),
    },
)


def server_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ServerConfig:
    """Return the server's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``.
    """
    config = _layered(SERVER, arguments, environ, default_file=None)
    return msgspec.structs.replace(config, domain=parse_domain(config.domain))


def client_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ClientConfig:
    """Return the client's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``. ``target`` is empty when nothing names one: whether that is an error is
    for the caller to say.
    """
    return _layered(CLIENT, arguments, environ, default_file=_client_file(environ))


def _client_file(environ: Mapping[str, str]) -> str | None:
    """Return the user's own file if there is one. A relative ``$XDG_CONFIG_HOME`` is ignored, as its standard says."""
    base = Path(environ.get("XDG_CONFIG_HOME") or "")
    if not base.is_absolute():
        base = Path(environ.get("HOME") or os.path.expanduser("~"), ".config")
    path = base / CLIENT_FILE
    return str(path) if path.is_file() else None


def _layered(
    schema: Schema[_Config], arguments: Mapping[str, Any], environ: Mapping[str, str], default_file: str | None
) -> _Config:
    """Check each layer alone, so that a fault has one origin, then lay them over each other."""
    layers = (
        _from_file(schema, arguments.get("--config") or environ.get(FILE_VARIABLE) or default_file),
        _from_environment(schema, environ),
        _from_flags(schema, arguments),
    )
    merged = {key: value for layer in layers for key, value in layer.items()}
    return msgspec.convert(merged, schema.struct)


def _from_file(schema: Schema[_Config], name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    path = os.path.expanduser(name)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"The settings file {path} has more than {MAX_FILE} bytes; it cannot be the right one.")
    try:
        values: dict[str, Any] = msgspec.toml.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None

    def complain(key: tuple[str, ...], text: str) -> LocaltunnelError:
        table = f"[{'.'.join(key[:-1])}] " if len(key) > 1 else ""
        return ConfigError(f"{path}: {table}{key[-1]}: {text}")

    _check(schema, values, complain)
    return values


def _from_environment(schema: Schema[_Config], environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in schema.settings:
        variable = setting.variable
        if variable and environ.get(variable):
            value = {setting.key: check.from_text(schema.struct, setting.key, environ[variable])}
            _check(schema, value, _complaint_about(ConfigError, variable))
            values |= value
    return values


def _from_flags(schema: Schema[_Config], arguments: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in schema.settings:
        given = [flag for flag in setting.flags if arguments.get(flag) not in (None, False)]
        if not given:
            continue
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} mean the same; give one of them.")
        raw = arguments[given[0]]
        typed = setting.present if raw is True else check.from_text(schema.struct, setting.key, raw)
        value = {setting.key: typed}
        _check(schema, value, _complaint_about(UsageError, given[0]))
        values |= value
    return values


def _complaint_about(error: type[LocaltunnelError], origin: str) -> _Complain:
    """Return what makes the error for a flag or a variable, which needs no path: it stands for one key."""
    return lambda _, text: error(f"{origin}: {text}")


def _check(schema: Schema[_Config], values: Mapping[str, Any], complain: _Complain) -> None:
    """Raise what ``complain`` makes of the first value that is wrong."""
    fault = check.first_fault(schema.struct, values)
    if fault:
        raise complain(fault.path, fault.text)
    for key, parse in schema.addresses.items():
        if key not in values or values[key] == getattr(schema.struct(), key):
            continue
        try:
            parse(values[key])
        except AddressError as error:
            raise complain((key,), str(error)) from None
