"""tests/fuzz: every target takes its seeds, which hold what was found before; and a target does find what is wrong."""

import pytest

from fuzz import protocol_targets
from fuzz.targets import TARGETS
from localtunnel.protocol.login.scram import ServerLogin
from localtunnel.protocol.version import Version
from localtunnel.protocol.wire import codec


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for data in seeds:
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_nearly_the_seeds(name: str) -> None:
    """Short of a byte, with one too many, and with one changed: where the first findings of a search are."""
    for data in TARGETS[name].seeds():
        short = data[:4096]
        middle = len(short) // 2
        for near in (b"", short[:-1], short + b"\x00", short[:middle] + b"\xff" + short[middle + 1 :]):
            TARGETS[name].run(near)


def test_an_error_that_nobody_promised_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(payload: bytes, version: Version) -> None:
        raise KeyError(payload)

    monkeypatch.setattr(codec, "decode_from_client", broken)
    with pytest.raises(KeyError):
        TARGETS["messages"].run(b"{}")


def test_a_login_that_anybody_passes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    first, proof, challenge, answer = next(iter(TARGETS["login"].seeds())).split(b"\n")
    forged = proof[:-8] + b"AAAAAAA="
    TARGETS["login"].run(b"\n".join((first, forged, challenge, answer)))
    monkeypatch.setattr(ServerLogin, "verify", lambda self, final: "v=AAAA")
    with pytest.raises(AssertionError):
        TARGETS["login"].run(b"\n".join((first, forged, challenge, answer)))


def test_a_stream_that_depends_on_its_cuts_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_targets, "_carried", lambda pieces: len(pieces))
    with pytest.raises(AssertionError):
        TARGETS["stream"].run(b"some bytes")
