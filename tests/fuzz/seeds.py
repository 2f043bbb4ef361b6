"""Where the search begins: messages that are valid, or nearly so. None of them is made here that is a file already."""

import json
from collections.abc import Iterator

from harness.places import CORPUS, ROOT, VECTORS
from harness.vector_items import to_bytes


def kept(target: str) -> Iterator[bytes]:
    """What was found before, or was written for ``target`` alone: ``tests/data/corpus/fuzz/TARGET/``."""
    for path in sorted((CORPUS / "fuzz" / target).glob("*")):
        yield path.read_bytes()


def http(kind: str) -> Iterator[bytes]:
    """The ``requests`` or ``responses`` of the corpus, valid and invalid."""
    for path in sorted(CORPUS.glob(f"*/{kind}/*.http")):
        yield path.read_bytes()


def conversations() -> Iterator[bytes]:
    """Each response of the corpus to a request that is valid, and each request with a response that is."""
    ask = b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    for response in http("responses"):
        yield b"\x00\n".join((ask, response, ask, answer))
    for request in http("requests"):
        yield b"\x00\n".join((request, answer, ask, answer))


def streams() -> Iterator[bytes]:
    """What clients send in the vectors for decoders and for servers."""
    for case in _cases("framing.json"):
        yield to_bytes(case["stream"])
    for case in _cases("server.json"):
        for step in case["steps"]:
            if "send" in step:
                yield to_bytes(step["send"])


def payloads() -> Iterator[bytes]:
    """The JSON of every message in the vectors."""
    for case in _cases("messages.json"):
        yield to_bytes(case["payload"])


def frames() -> Iterator[bytes]:
    """The same as frames, as a client reads them."""
    for payload in payloads():
        yield len(payload).to_bytes(4, "big") + payload


def logins() -> Iterator[bytes]:
    """The exchange in the vectors: what the server gets and then what the client gets, a line each."""
    for case in _cases("login.json"):
        yield "\n".join(case[part] for part in ("request", "proof", "challenge", "reply")).encode()


def settings(name: str) -> Iterator[bytes]:
    """The settings file that is shipped, which has every key."""
    yield (ROOT / "conf" / name).read_bytes()


def _cases(name: str) -> Iterator[dict]:
    yield from json.loads((VECTORS / name).read_text(encoding="utf-8"))["cases"]
