"""Every target, and where its seeds come from. Importing this imports what is fuzzed."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from fuzz import file_targets, http_targets, protocol_targets, seeds


class Target(NamedTuple):
    """``run`` raises for a finding. ``seeds`` are made anew on each call."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def _none() -> Iterable[bytes]:
    return ()


_TARGETS = {
    "from_client": Target(protocol_targets.from_client, seeds.streams),
    "from_server": Target(protocol_targets.from_server, seeds.frames),
    "messages": Target(protocol_targets.messages, seeds.payloads),
    "login": Target(protocol_targets.login, seeds.logins),
    "tokens": Target(protocol_targets.tokens, _none),
    "stream": Target(protocol_targets.stream, seeds.frames),
    "requests": Target(http_targets.requests, lambda: seeds.http("requests")),
    "responses": Target(http_targets.responses, lambda: seeds.http("responses")),
    "conversations": Target(http_targets.conversations, seeds.conversations),
    "proxy_header": Target(http_targets.proxy_header, _none),
    "options": Target(http_targets.options, _none),
    "server_settings": Target(file_targets.server_settings, lambda: seeds.settings("server.toml")),
    "client_settings": Target(file_targets.client_settings, lambda: seeds.settings("client.toml")),
    "known_servers": Target(file_targets.known_servers, _none),
    "stored_tokens": Target(file_targets.stored_tokens, _none),
    "server_tokens": Target(file_targets.server_tokens, _none),
}


def _with_kept(name: str, target: Target) -> Target:
    return Target(target.run, lambda: [*target.seeds(), *seeds.kept(name)])


TARGETS = {name: _with_kept(name, target) for name, target in _TARGETS.items()}
