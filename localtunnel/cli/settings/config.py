"""The settings of both commands: flag > environment > file > default, each checked by
itself.

A wrong value on the command line is a ``UsageError`` that names the flag; a wrong one
in the environment or in a file is a ``ConfigError`` that names the variable, or the
file, the table and the key. An empty variable counts as unset.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from localtunnel import files
from localtunnel.cli.settings import check
from localtunnel.cli.settings.schema import CLIENT, HTTP_ONLY, SERVER, Config, Schema
from localtunnel.client.config import ClientConfig
from localtunnel.errors import ConfigError, LocaltunnelError, UsageError
from localtunnel.net.address import parse_bind, parse_domain, parse_public
from localtunnel.server.config import ServerConfig

FILE_VARIABLE = "LT_CONFIG"
CLIENT_FILE = Path("localtunnel", "client.toml")
"""Where the client looks below ``$XDG_CONFIG_HOME`` (or ``~/.config``) when no file is
named."""

MAX_FILE = 1024 * 1024
"""Bytes of a settings file. A real one has a few thousand; a device or a wrong file may
be endless."""

_Complain = Callable[[tuple[str, ...], str], LocaltunnelError]


class _Layer(NamedTuple):
    """The values of one origin. ``complain(path, text)`` makes the error for one of
    them."""

    values: dict[str, Any]
    complain: _Complain


def server_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ServerConfig:
    """Return the server's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``.
    """
    layers = _layers(SERVER, arguments, environ, default_file=None)
    _raise_first(_faults(SERVER, layers))
    config = _merged(SERVER, layers)
    _raise_first(_conflicts(config, layers))
    return msgspec.structs.replace(config, domain=parse_domain(config.domain))


def server_faults(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> list[LocaltunnelError]:
    """Return everything that is wrong with the server's settings, where
    ``server_config`` raises the first of it.

    Values that contradict each other are looked for once each is right by itself.
    Raises ``ConfigError`` for a file that cannot be read as TOML.
    """
    layers = _layers(SERVER, arguments, environ, default_file=None)
    return list(_faults(SERVER, layers)) or list(_conflicts(_merged(SERVER, layers), layers))


def client_config(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> ClientConfig:
    """Return the client's settings from docopt's mapping and the environment.

    Raises ``UsageError`` and ``ConfigError``. ``target`` is empty when none is given;
    the caller decides whether that is an error. ``remote_port`` is None where no TCP
    tunnel is asked for. Without a named server, it is that of the last login, if there
    was one.
    """
    layers = _layers(CLIENT, arguments, environ, default_file=_client_file(environ))
    _raise_first(_faults(CLIENT, layers))
    config = _merged(CLIENT, layers)
    flags = layers[-1]
    if not config.insecure and not any("server" in layer.values for layer in layers):
        config = msgspec.structs.replace(config, server=_last_login(config, environ) or config.server)
    if config.kind == "tcp":
        _refuse_url(layers)
        _refuse_http_only(layers)
        # A file may have them for its user's HTTP tunnels.
        defaults = ClientConfig()
        config = msgspec.structs.replace(config, **{key: getattr(defaults, key) for key in HTTP_ONLY})
    elif "remote_port" in flags.values:
        raise flags.complain(("remote_port",), "only a TCP tunnel has a public port of its own; write lt-client tcp.")
    else:
        # A file may have the port for its user's TCP tunnels.
        config = msgspec.structs.replace(config, remote_port=None)
    return config


def _last_login(config: ClientConfig, environ: Mapping[str, str]) -> str | None:
    """Return the server of the last ``lt-client login``. It is never used without
    encryption."""
    from localtunnel.client.trust.credentials import Credentials

    return Credentials(files.data_directory(config.data_dir, environ)).latest()


def _raise_first(faults: Iterator[LocaltunnelError]) -> None:
    for fault in faults:
        raise fault


def _conflicts(config: ServerConfig, layers: Sequence[_Layer]) -> Iterator[LocaltunnelError]:
    """Yield an error for each value of the server's that contradicts another one."""
    frontend = parse_bind(config.frontend)
    # Port 0 is any free port, another one for each.
    if frontend == parse_bind(config.backend) and frontend.port != 0:
        layer, key = next(
            (layer, key) for layer in reversed(layers) for key in ("backend", "frontend") if key in layer.values
        )
        yield layer.complain((key,), "frontend and backend are the same address; give them different ports.")
    if config.proxy_protocol and not config.trusted_proxies:
        text = "no visitor could connect, since trusted_proxies names no proxy that may send the header."
        yield _origin_of("proxy_protocol", layers).complain(("proxy_protocol",), text)
    domain = parse_domain(config.domain)
    if config.public_url and (host := parse_public(config.public_url).host) != domain:
        text = f"its host is {host}, but tunnels get their hosts below {domain}; set domain to the same name."
        yield _origin_of("public_url", layers).complain(("public_url",), text)
    if config.tls_key and not config.tls_certificate:
        yield _origin_of("tls_key", layers).complain(("tls_key",), "it is set without tls_certificate; set both.")


def _origin_of(key: str, layers: Sequence[_Layer]) -> _Layer:
    """Return the strongest layer with ``key``, or the weakest of all if none has it."""
    return next((layer for layer in reversed(layers) if key in layer.values), layers[0])


def _refuse_url(layers: Sequence[_Layer]) -> None:
    """Refuse a URL as the target of a TCP tunnel: its user expects HTTP, which a TCP
    tunnel does not read."""
    layer = _origin_of("target", layers)
    if "://" in str(layer.values.get("target")):
        text = f"{layer.values['target']!r} is not a target of a TCP tunnel: http:// stands for a web server."
        raise layer.complain(("target",), f"{text} Write PORT, HOST:PORT or [IPV6]:PORT, or leave tcp out.")


def _refuse_http_only(layers: Sequence[_Layer]) -> None:
    """Refuse options that a TCP tunnel cannot have. Of those in a file, refuse only the
    password, which would be missed."""
    for layer in reversed(layers):
        for key in ("protect",) if layer is layers[0] else HTTP_ONLY:
            if key in layer.values:
                raise layer.complain((key,), "only an HTTP tunnel can have this; leave it out, or leave tcp out.")


def _client_file(environ: Mapping[str, str]) -> str | None:
    """Return the user's own file if there is one."""
    path = files.xdg("XDG_CONFIG_HOME", environ, ".config") / CLIENT_FILE
    return str(path) if path.is_file() else None


def _layers(
    schema: Schema[Config], arguments: Mapping[str, Any], environ: Mapping[str, str], default_file: str | None
) -> tuple[_Layer, ...]:
    """Return file, environment and flags, the strongest last."""
    return (
        _from_file(arguments.get("--config") or environ.get(FILE_VARIABLE) or default_file),
        _from_environment(schema, environ),
        _from_flags(schema, arguments),
    )


def _merged(schema: Schema[Config], layers: Sequence[_Layer]) -> Config:
    values = {key: value for layer in layers for key, value in layer.values.items()}
    return msgspec.convert(values, schema.struct)


def _from_file(name: str | None) -> _Layer:
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
        values: dict[str, Any] = msgspec.toml.decode(files.text_of(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: arrays or tables nest too deeply; no setting needs that.") from None

    def complain(key: tuple[str, ...], text: str) -> LocaltunnelError:
        table = f"[{'.'.join(key[:-1])}] " if len(key) > 1 else ""
        return ConfigError(f"{path}: {table}{key[-1]}: {text}")

    return _Layer(values, complain)


def _from_environment(schema: Schema[Config], environ: Mapping[str, str]) -> _Layer:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in schema.settings:
        variable = setting.variable
        if variable and environ.get(variable):
            values[setting.key] = check.from_text(schema.struct, setting.key, environ[variable])
            origins[setting.key] = variable
    return _Layer(values, _complaint_about(ConfigError, origins))


def _from_flags(schema: Schema[Config], arguments: Mapping[str, Any]) -> _Layer:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in schema.settings:
        given = [flag for flag in setting.flags if arguments.get(flag) not in (None, False, [])]
        if not given:
            continue
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} mean the same; give one of them.")
        raw = arguments[given[0]]
        if raw is True:
            values[setting.key] = setting.present
        else:
            values[setting.key] = raw if isinstance(raw, list) else check.from_text(schema.struct, setting.key, raw)
        origins[setting.key] = given[0]
    return _Layer(values, _complaint_about(UsageError, origins))


def _complaint_about(error: type[LocaltunnelError], origins: Mapping[str, str]) -> _Complain:
    """Return a ``complain`` for flags or variables, each of which sets one key."""
    return lambda path, text: error(f"{origins[path[0]]}: {text}")


def _faults(schema: Schema[Config], layers: Sequence[_Layer]) -> Iterator[LocaltunnelError]:
    """Yield an error for each value that is wrong by itself. Each layer is checked
    alone, so a fault has one origin."""
    defaults = msgspec.to_builtins(schema.struct())
    for layer in layers:
        wrong = set()
        for path, text in check.faults(schema.struct, layer.values):
            wrong.add(path)
            yield layer.complain(path, text)
        for name, parse in schema.forms.items():
            path = tuple(name.split("."))
            value = _value_at(path, layer.values)
            if path in wrong or value is None or value == _value_at(path, defaults):
                continue
            try:
                parse(value)
            except (ConfigError, ValueError) as error:
                yield layer.complain(path, str(error))


def _value_at(path: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """Return the value of a key within its tables, None where there is none."""
    value: Any = values
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value
