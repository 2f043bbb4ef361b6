"""What peers of LTP send: frames, messages, logins, tokens, and streams over TLS."""

import base64
import zlib

from fuzz.pieces import arrivals
from localtunnel.errors import AuthFailed, ConfigError, FrameError, ProtocolError
from localtunnel.protocol import limits, states
from localtunnel.protocol.login import scram, token
from localtunnel.protocol.login.scram import ClientLogin, ServerLogin
from localtunnel.protocol.messages import (
    ASSIGNED,
    Assignment,
    Challenge,
    ControlReply,
    ControlRequest,
    FromClient,
    Message,
    ProxyRequest,
)
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.framing import Decoder
from localtunnel.protocol.wire.stream import LENGTH_SIZE, Unchunker, chunked

USER = "u2fhw6eu"
SECRET = "3pxwfausv4goidx75vzcfjpvly"
BINDING = bytes.fromhex("0e7bdcee757f34b392873cfa9bb5a2b73528ca5868221cdfdbbb5e7d02183a94")
CLIENT_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
SERVER_NONCE = "3rfcNHYJY1ZVvWVs7j!%hvYD"
CREDENTIALS = scram.credentials(SECRET, bytes.fromhex("5b6d99689d12358eeca04b141236fa81"))
"""The login of tests/data/vectors/login.json, which is a seed."""


def from_client(data: bytes) -> None:
    """What a server reads on a new connection; the first line of answers is given as the state table wants them."""
    whole = _conversation([data], header=True)
    for pieces in arrivals(data):
        assert _conversation(pieces, header=True) == whole


def from_server(data: bytes) -> None:
    """What a client reads on its control connection, where there is no header."""
    whole = _conversation([data], header=False)
    for pieces in arrivals(data):
        assert _conversation(pieces, header=False) == whole


def _conversation(pieces: list[bytes], *, header: bool) -> list[object]:
    """Return everything that comes of ``pieces``: messages, the type of the error that ends them, and what is left."""
    decoder = Decoder(None if header else LTP_0_3, limit=limits.MAX_HEARTBEAT)
    state = State.START if header else State.OPEN
    seen: list[object] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (payload := decoder.next_payload()) is not None:
                version = decoder.version or LTP_0_2
                if header:
                    message: Message = codec.decode_from_client(payload, version)
                    state = _answered(version, states.advance(version, state, message), message)
                else:
                    message = codec.decode_from_server(payload, version)
                    state = states.advance(version, state, message)
                seen.append(message)
    except ProtocolError as error:
        seen.append(type(error))
    else:
        seen.append(decoder.take_rest())
        assert decoder.is_empty
    return seen


def _answered(version: Version, state: State, message: FromClient) -> State:
    """Return the state after the server's answer to ``message``, so that more of the table is reached."""
    if isinstance(message, ControlRequest | ProxyRequest):
        codec.check_fields(message, version)
    answer: Message | None = None
    if state is State.REQUESTED and version == LTP_0_3 and isinstance(message, ControlRequest) and message.auth:
        answer = Challenge("")
    elif state in (State.REQUESTED, State.PROVED):
        answer = ControlReply("", 1, "")
    elif state is State.PARKED:
        answer = ASSIGNED if version == LTP_0_2 else Assignment(1, "192.0.2.1:51234")
    return state if answer is None else states.advance(version, state, answer)


def messages(data: bytes) -> None:
    """One payload, as either side reads it: what was read, written and read again is the same."""
    for decode in (codec.decode_from_client, codec.decode_from_server):
        for version in (LTP_0_2, LTP_0_3):
            try:
                message = decode(data, version)
                frame = codec.encode(message)
            except ProtocolError:
                continue
            assert decode(frame[LENGTH_SIZE:], LTP_0_3) == message


def stream(data: bytes) -> None:
    """One direction of a stream over TLS: it carries the same however it is cut, and what we make of it is read."""
    whole = _carried([data])
    for pieces in arrivals(data):
        assert _carried(pieces) == whole
    assert _carried([chunked(data)]) == (data, False)


def _carried(pieces: list[bytes]) -> tuple[bytes, bool] | None:
    """Return what was carried, and whether the end has come; None for what goes on behind its end."""
    reader = Unchunker()
    try:
        return b"".join(reader.feed(piece) for piece in pieces), reader.ended
    except FrameError:
        return None


def login(data: bytes) -> None:
    """Four lines: a beginning and a proof for the server, a challenge and an answer for the client.

    The server takes no proof but the one that the holder of the token would have sent, and the client no answer but the
    one of the token's own server.
    """
    lines = data.decode("latin-1").split("\n")
    first, proof, challenge, answer = (*lines, "", "", "", "")[:4]
    _log_in(first, proof)
    _answer(challenge, answer)


def _log_in(first: str, proof: str) -> None:
    try:
        server = ServerLogin(first, SERVER_NONCE, BINDING)
        challenge = server.challenge(CREDENTIALS)
        server.verify(proof)
    except (ProtocolError, AuthFailed):
        return
    honest = ClientLogin(server.user, SECRET, first.partition(",r=")[2], BINDING).final(challenge)
    assert _proof(proof) == _proof(honest), "a proof was taken that the holder of the token would not have sent"


def _answer(challenge: str, answer: str) -> None:
    client = ClientLogin(USER, SECRET, CLIENT_NONCE, BINDING)
    try:
        proof = client.final(challenge)
        client.verify(answer)
    except (ProtocolError, AuthFailed):
        return
    server = ServerLogin(client.first, challenge.partition(",")[0].removeprefix(f"r={CLIENT_NONCE}"), BINDING)
    asked = server.challenge(CREDENTIALS)
    assert asked == challenge, "an answer was taken that the token's own server would not have sent"
    assert _proof(server.verify(proof)) == _proof(answer)


def _proof(text: str) -> bytes:
    """Return the digest at the end of a message. Base64 can be written in more than one way."""
    return base64.b64decode(text.rpartition("p=" if ",p=" in text else "v=")[2])


def tokens(data: bytes) -> None:
    """What a user pastes as a token, as it is and with the check letters put right: what is taken is whole."""
    text = data.decode("utf-8", "replace")
    for word in (text, f"{text}_{token.base32(zlib.crc32(text.encode()).to_bytes(4, 'big'))}"):
        try:
            found = token.parse(word)
        except ConfigError:
            continue
        assert token.parse(found.text()) == found
        assert found.secret in word
        assert found.secret not in repr(found)
