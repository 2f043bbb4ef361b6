"""The operator's commands to a running server, over the unix socket in its data
directory.

One JSON object a line: ``{"command": "kick", "subject": "demo"}`` is answered by
``{"ok": true}``, by an object with ``tunnels`` or ``bans``, or by ``{"error": "…"}``, a
sentence. ``cli.commands.tunnels`` is the other end.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from localtunnel.errors import LocaltunnelError
from localtunnel.net.local import LineServer
from localtunnel.networks import Network, Networks, parse_network
from localtunnel.server.access.bans import Bans
from localtunnel.server.names.claims import NOBODY, Claim
from localtunnel.server.names.registry import Registry

log = logging.getLogger("localtunnel.server")

SOCKET = "admin.sock"

KICK_PAUSE = 60.0
"""Seconds for which the name of a kicked tunnel is barred. A client that reconnects by
itself finds the name taken, and gives up; a person waits longer than this anyway. The
message to the owner says a minute."""

OWNER_SHOWN = 16
"""Characters of an owner that are shown: a whole token id, and enough of a key's digest
to tell two apart."""


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """A command. ``subject`` is the name or the address that it is about."""

    command: Literal["list", "bans", "kick", "ban", "unban"]
    subject: str = ""


_decoder = msgspec.json.Decoder(Question)


class Admin:
    """Answers commands. Start it while this server has the data directory to itself."""

    def __init__(self, directory: Path, registry: Registry, bans: Bans) -> None:
        self._registry = registry
        self._bans = bans
        self._server = LineServer(directory / SOCKET, self.answer)
        self._commands: dict[str, Callable[[str], dict[str, Any]]] = {
            "list": self._list,
            "bans": self._list_bans,
            "kick": self._kick,
            "ban": self._ban,
            "unban": self._unban,
        }

    def start(self) -> None:
        """Listen. Raises ListenError."""
        self._server.start()

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        self._server.stop()

    def answer(self, line: bytes) -> bytes:
        """Return the answer to one command; may block the greenlet for the disk."""
        try:
            question = _decoder.decode(line)
            result = self._commands[question.command](question.subject)
        except msgspec.DecodeError as error:
            result = {"error": f"The command was not understood: {error}."}
        except LocaltunnelError as error:
            result = {"error": str(error)}
        return msgspec.json.encode(result)

    def _list(self, subject: str) -> dict[str, Any]:
        return {"tunnels": [_described(claim) for claim in self._registry.claims()]}

    def _list_bans(self, subject: str) -> dict[str, Any]:
        return {"bans": [{"network": str(network), "since": since} for network, since in self._bans]}

    def _kick(self, name: str) -> dict[str, Any]:
        if not self._registry.bar(name, KICK_PAUSE):
            return {"error": f"There is no tunnel {name!r} on this server."}
        log.warning("tunnel kicked", extra={"tunnel": name})
        return {"ok": True}

    def _ban(self, text: str) -> dict[str, Any]:
        network = parse_network(text)
        self._bans.add(network)
        ended = self._end_all_of(network)
        log.warning("address banned", extra={"network": str(network), "tunnels": ended})
        return {"ok": True, "ended": ended}

    def _unban(self, text: str) -> dict[str, Any]:
        network = parse_network(text)
        if not self._bans.remove(network):
            return {"error": f"{network} is not banned."}
        log.warning("address no longer banned", extra={"network": str(network)})
        return {"ok": True}

    def _end_all_of(self, network: Network) -> int:
        """End all tunnels and leases of clients from ``network``; return their
        number.
        """
        addresses = Networks((network,))
        ended = [claim for claim in self._registry.claims() if claim.address in addresses]
        return sum(self._registry.bar(claim.name, KICK_PAUSE) for claim in ended)


def _described(claim: Claim) -> dict[str, Any]:
    tunnel = claim.tunnel
    state = "open" if tunnel is not None else "barred" if claim.owner is NOBODY else "offline"
    return {
        "name": claim.name,
        "state": state,
        "kind": claim.kind,
        "host": claim.host,
        "port": claim.port,
        "client": claim.client,
        "address": claim.address,
        "owner": claim.owner.id[:OWNER_SHOWN] if claim.owner.kept else "",
        "seconds": round(max(0.0, time.time() - claim.since), 1),
        "visitors": len(tunnel.joins) if tunnel is not None else 0,
    }
