"""The settings of both commands: flag > environment > file > default, each checked where it came from.

A wrong value on the command line is a ``UsageError`` that names the flag; a wrong one in the environment or in a file
is a ``ConfigError`` that names the variable, or the file, the table and the key. An empty variable counts as unset.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from localtunnel.cli import check
from localtunnel.client.config import ClientConfig
from localtunnel.errors import ConfigError, LocaltunnelError, UsageError
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
    """A key that flags and perhaps a variable can give.

    ``present`` is what a flag without a value, or a word that is a command, stands for.
    """

    key: str
    flags: tuple[str, ...]
    variable: str | None = None
    present: bool | str = True


@dataclass(frozen=True)
class Schema(Generic[_Config]):
    """What a command can be told: the struct, what can stand outside its file, and what its types cannot say.

    ``forms`` has a callable for each key whose value has a form of its own; it raises ``ConfigError`` for others.
    """

    struct: type[_Config]
    settings: tuple[Setting, ...]
    forms: Mapping[str, Callable[[Any], object]]


class _Layer(NamedTuple):
    """The values of one origin, and what makes the error for one of them, its key given as a path."""

    values: dict[str, Any]
    complain: _Complain


def _parse_tcp_ports(text: str) -> None:
    # The server brings gevent with it, which only those have to wait for who set this key.
    from localtunnel.server.ports import parse_range

    parse_range(text)


def _check_protocols(versions: Sequence[str]) -> None:
    if not versions:
        raise ConfigError('a server without a version would refuse every client; name at least one, as in ["0.3"].')


SERVER = Schema(
    ServerConfig,
    settings=(
        Setting("domain", ("--domain",)),
        Setting("frontend", ("--frontend",)),
        Setting("backend", ("--backend",)),
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
        "tcp_ports": _parse_tcp_ports,
        "protocols": _check_protocols,
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
        Setting("retry", ("--no-retry",), present=False),
        Setting("log_level", ("--log-level",), "LT_LOG_LEVEL"),
    ),
    forms={
        "target": parse_target,
        "server": parse_server,
        "backend": lambda text: parse_backend(text, default_host="localhost"),
    },
)


def server_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ServerConfig:
    """Return the server's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``.
    """
    config = _merged(SERVER, _layers(SERVER, arguments, environ, default_file=None))
    return msgspec.structs.replace(config, domain=parse_domain(config.domain))


def client_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ClientConfig:
    """Return the client's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``. ``target`` is empty when nothing names one: whether that is an error is
    for the caller to say. ``remote_port`` is None where no TCP tunnel is asked for.
    """
    layers = _layers(CLIENT, arguments, environ, default_file=_client_file(environ))
    config = _merged(CLIENT, layers)
    flags = layers[-1]
    if config.kind == "tcp":
        _refuse_url(layers)
    elif "remote_port" in flags.values:
        raise flags.complain(("remote_port",), "only a TCP tunnel has a public port of its own; write lt-client tcp.")
    else:
        # A file may hold the port for the times when its user asks for a TCP tunnel.
        config = msgspec.structs.replace(config, remote_port=None)
    return config


def _refuse_url(layers: Sequence[_Layer]) -> None:
    """Refuse a URL as the target of a TCP tunnel: whoever writes one expects HTTP, which nothing would look at."""
    layer = next((layer for layer in reversed(layers) if "target" in layer.values), None)
    if layer is not None and "://" in str(layer.values["target"]):
        text = f"{layer.values['target']!r} is not a target of a TCP tunnel: http:// stands for a web server."
        raise layer.complain(("target",), f"{text} Write PORT, HOST:PORT or [IPV6]:PORT, or leave tcp out.")


def _client_file(environ: Mapping[str, str]) -> str | None:
    """Return the user's own file if there is one. A relative ``$XDG_CONFIG_HOME`` is ignored, as its standard says."""
    base = Path(environ.get("XDG_CONFIG_HOME") or "")
    if not base.is_absolute():
        base = Path(environ.get("HOME") or os.path.expanduser("~"), ".config")
    path = base / CLIENT_FILE
    return str(path) if path.is_file() else None


def _layers(
    schema: Schema[_Config], arguments: Mapping[str, Any], environ: Mapping[str, str], default_file: str | None
) -> tuple[_Layer, ...]:
    """Return file, environment and flags, the strongest last, each checked alone so that a fault has one origin."""
    return (
        _from_file(schema, arguments.get("--config") or environ.get(FILE_VARIABLE) or default_file),
        _from_environment(schema, environ),
        _from_flags(schema, arguments),
    )


def _merged(schema: Schema[_Config], layers: Sequence[_Layer]) -> _Config:
    values = {key: value for layer in layers for key, value in layer.values.items()}
    return msgspec.convert(values, schema.struct)


def _from_file(schema: Schema[_Config], name: str | None) -> _Layer:
    if name is None:
        return _Layer({}, _complaint_about(ConfigError, {}))
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

    return _checked(schema, _Layer(values, complain))


def _from_environment(schema: Schema[_Config], environ: Mapping[str, str]) -> _Layer:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in schema.settings:
        variable = setting.variable
        if variable and environ.get(variable):
            values[setting.key] = check.from_text(schema.struct, setting.key, environ[variable])
            origins[setting.key] = variable
    return _checked(schema, _Layer(values, _complaint_about(ConfigError, origins)))


def _from_flags(schema: Schema[_Config], arguments: Mapping[str, Any]) -> _Layer:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in schema.settings:
        given = [flag for flag in setting.flags if arguments.get(flag) not in (None, False)]
        if not given:
            continue
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} mean the same; give one of them.")
        raw = arguments[given[0]]
        values[setting.key] = setting.present if raw is True else check.from_text(schema.struct, setting.key, raw)
        origins[setting.key] = given[0]
    return _checked(schema, _Layer(values, _complaint_about(UsageError, origins)))


def _complaint_about(error: type[LocaltunnelError], origins: Mapping[str, str]) -> _Complain:
    """Return what makes the error for a flag or a variable, of which each stands for one key."""
    return lambda path, text: error(f"{origins[path[0]]}: {text}")


def _checked(schema: Schema[_Config], layer: _Layer) -> _Layer:
    """Return ``layer``, or raise what it makes of the first of its values that is wrong."""
    fault = check.first_fault(schema.struct, layer.values)
    if fault:
        raise layer.complain(fault.path, fault.text)
    for key, parse in schema.forms.items():
        if key not in layer.values or layer.values[key] == getattr(schema.struct(), key):
            continue
        try:
            parse(layer.values[key])
        except ConfigError as error:
            raise layer.complain((key,), str(error)) from None
    return layer
