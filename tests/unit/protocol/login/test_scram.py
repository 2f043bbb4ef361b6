"""localtunnel.protocol.login.scram: the vector of RFC 7677, both sides against each other, and what each refuses."""

import base64
import hashlib
import hmac
import re

import pytest
from harness.vector_items import load
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import AuthFailed, MessageError
from localtunnel.protocol.limits import MAX_SCRAM
from localtunnel.protocol.login import scram
from localtunnel.protocol.login.scram import ClientLogin, ServerLogin, credentials, decoy

SECRET = "3pxwfausv4goidx75vzcfjpvly"
KEPT = credentials(SECRET, b"sixteen bytes ok")
BINDING = hashlib.sha256(b"the server's certificate").digest()
OTHER_BINDING = hashlib.sha256(b"the certificate of a man in the middle").digest()
CLIENT_NONCE = "c" * 24
SERVER_NONCE = "s" * 24

RFC_PASSWORD = "pencil"
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_AUTH_MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
RFC_PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
RFC_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def login(client_binding=BINDING, server_binding=BINDING, secret=SECRET, kept=KEPT):
    """Return both sides, the challenge and the proof of a login."""
    client = ClientLogin("u2fhw6eu", secret, CLIENT_NONCE, client_binding)
    server = ServerLogin(client.first, SERVER_NONCE, server_binding)
    challenge = server.challenge(kept)
    return client, server, challenge, client.final(challenge)


def test_the_vector_of_rfc_7677():
    kept = credentials(RFC_PASSWORD, RFC_SALT, 4096)
    signature = hmac.digest(kept.server_key, RFC_AUTH_MESSAGE, "sha256")
    assert base64.b64encode(signature).decode() == RFC_SIGNATURE
    mask = hmac.digest(kept.stored_key, RFC_AUTH_MESSAGE, "sha256")
    client_key = bytes(a ^ b for a, b in zip(base64.b64decode(RFC_PROOF), mask, strict=True))
    assert hashlib.sha256(client_key).digest() == kept.stored_key


def test_the_vector_of_rfc_7677_through_both_sides(monkeypatch):
    """The RFC's exchange has no binding: with its header in the place of ours, our sides say what it says."""
    monkeypatch.setattr(scram, "_GS2_HEADER", "n,,")
    pattern = scram._CLIENT_FIRST.pattern.replace(re.escape("p=tls-server-end-point,,"), "n,,")
    monkeypatch.setattr(scram, "_CLIENT_FIRST", re.compile(pattern, re.ASCII))
    client = ClientLogin("user", RFC_PASSWORD, "rOprNGfwEbeRWgbNEkqO", b"")
    assert client.first == "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    server = ServerLogin(client.first, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b"")
    challenge = server.challenge(credentials(RFC_PASSWORD, RFC_SALT, 4096))
    final = client.final(challenge)
    assert final == f"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={RFC_PROOF}"
    answer = server.verify(final)
    assert answer == f"v={RFC_SIGNATURE}"
    client.verify(answer)


@pytest.mark.parametrize("case", load("login.json"))
def test_the_vectors(case):
    kept = credentials(case["secret"], bytes.fromhex(case["salt"]), case["iterations"])
    assert (kept.stored_key.hex(), kept.server_key.hex()) == (case["stored_key"], case["server_key"])
    binding = bytes.fromhex(case["binding"])
    client = ClientLogin(case["id"], case["secret"], case["client_nonce"], binding)
    server = ServerLogin(case["request"], case["server_nonce"], binding)
    assert client.first == case["request"]
    assert server.challenge(kept) == case["challenge"]
    assert client.final(case["challenge"]) == case["proof"]
    assert server.verify(case["proof"]) == case["reply"]
    client.verify(case["reply"])


def test_both_sides_prove_themselves_and_neither_says_the_secret():
    client, server, challenge, final = login()
    answer = server.verify(final)
    client.verify(answer)
    assert server.user == "u2fhw6eu"
    assert not any(SECRET in message for message in (client.first, challenge, final, answer))


def test_the_longest_message_is_within_the_limit():
    long = bytes(64)
    client = ClientLogin("u" * 32, SECRET, CLIENT_NONCE, long)
    server = ServerLogin(client.first, SERVER_NONCE, long)
    challenge = server.challenge(KEPT)
    final = client.final(challenge)
    assert max(map(len, (client.first, challenge, final, server.verify(final)))) < MAX_SCRAM


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param({"secret": "another secret"}, id="wrong secret"),
        pytest.param({"kept": decoy(b"key", "u2fhw6eu")}, id="unknown id"),
        pytest.param({"client_binding": OTHER_BINDING}, id="relayed by a man in the middle"),
        pytest.param({"server_binding": OTHER_BINDING}, id="another certificate"),
    ],
)
def test_what_proves_nothing(attempt):
    _, server, _, final = login(**attempt)
    with pytest.raises(AuthFailed, match=re.escape(scram.REFUSED)):
        server.verify(final)


def test_a_proof_is_of_use_once():
    client, _, _, final = login()
    another = ServerLogin(client.first, "t" * 24, BINDING)
    another.challenge(KEPT)
    with pytest.raises(AuthFailed):
        another.verify(final)


def test_who_knows_the_secret_still_has_to_answer_this_challenge():
    client, server, challenge, _ = login()
    without_proof = f"c={client._binding},r={CLIENT_NONCE}{'t' * 24}"
    auth_message = f"n=u2fhw6eu,r={CLIENT_NONCE},{challenge},{without_proof}".encode()
    salted = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), KEPT.salt, KEPT.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    mask = hmac.digest(KEPT.stored_key, auth_message, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, mask, strict=True))).decode()
    with pytest.raises(AuthFailed):
        server.verify(f"{without_proof},p={proof}")


def test_a_binding_that_was_exchanged_breaks_the_proof():
    """A man in the middle may write the binding that the server expects, but the proof covers the one of the client."""
    _, server, _, final = login(client_binding=OTHER_BINDING)
    _, _, _, honest = login()
    forged = honest.split(",")[0] + "," + final.split(",", 1)[1]
    with pytest.raises(AuthFailed):
        server.verify(forged)


def test_what_the_server_keeps_is_no_secret_to_log_in_with():
    for stolen in (KEPT.stored_key, KEPT.server_key):
        for secret in (stolen.hex(), base64.b64encode(stolen).decode()):
            _, server, _, final = login(secret=secret)
            with pytest.raises(AuthFailed):
                server.verify(final)


def test_a_decoy_is_the_same_each_time_and_looks_like_any_other():
    one, again, other = decoy(b"key", "aaaaaaaa"), decoy(b"key", "aaaaaaaa"), decoy(b"key", "bbbbbbbb")
    assert one == again
    assert one.salt != other.salt
    assert one.salt != decoy(b"another key", "aaaaaaaa").salt
    assert [type(part) for part in one] == [type(part) for part in KEPT]
    assert (len(one.salt), one.iterations) == (len(KEPT.salt), KEPT.iterations)


@pytest.mark.parametrize(
    "attempt", [{"kept": decoy(b"key", "u2fhw6eu")}, {"secret": "x"}, {"client_binding": b"x"}, {}]
)
def test_everything_is_compared_whatever_was_wrong_before(monkeypatch, attempt):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(scram.hmac, "compare_digest", lambda a, b: compared.append(1) or real(a, b))
    _, server, _, final = login(**attempt)
    try:
        server.verify(final)
    except AuthFailed:
        assert attempt
    assert len(compared) == 3


def test_a_server_that_does_not_know_the_token_is_found_out():
    client, _, _, _ = login()
    with pytest.raises(AuthFailed, match="could not prove"):
        client.verify("v=" + base64.b64encode(bytes(32)).decode())


@pytest.mark.parametrize("answer", [None, "v=" + base64.b64encode(bytes(32)).decode()])
def test_a_server_that_asks_for_no_proof_is_found_out(answer):
    client = ClientLogin("u2fhw6eu", SECRET, CLIENT_NONCE, BINDING)
    with pytest.raises(AuthFailed, match="asked for no proof"):
        client.verify(answer)


@pytest.mark.parametrize("nonce", ["s" * 48, CLIENT_NONCE * 2 + "!"])
def test_a_challenge_to_somebody_else_is_not_answered(nonce):
    client = ClientLogin("u2fhw6eu", SECRET, CLIENT_NONCE, BINDING)
    challenge = f"r={nonce},s={base64.b64encode(KEPT.salt).decode()},i=4096"
    if nonce.startswith(CLIENT_NONCE):
        client.final(challenge)
    else:
        with pytest.raises(AuthFailed, match="a different login"):
            client.final(challenge)


def test_a_server_that_adds_no_nonce_is_refused():
    client = ClientLogin("u2fhw6eu", SECRET, "c" * 32, BINDING)
    with pytest.raises(AuthFailed):
        client.final(f"r={'c' * 32},s={base64.b64encode(KEPT.salt).decode()},i=4096")


@pytest.mark.parametrize("rounds", ["1", "4095", "65537", "9999999"])
def test_rounds_outside_what_is_sound_are_refused_before_they_are_run(rounds):
    client = ClientLogin("u2fhw6eu", SECRET, CLIENT_NONCE, BINDING)
    with pytest.raises(MessageError, match="rounds"):
        client.final(f"r={CLIENT_NONCE}{SERVER_NONCE},s=c2l4dGVlbiBieXRlcyBvaw==,i={rounds}")


@pytest.mark.parametrize(
    "first",
    [
        "",
        "n,,n=u2fhw6eu,r=cccccccccccccccccccccccc",
        "y,,n=u2fhw6eu,r=cccccccccccccccccccccccc",
        "p=tls-unique,,n=u2fhw6eu,r=cccccccccccccccccccccccc",
        "p=tls-server-end-point,a=root,n=u2fhw6eu,r=cccccccccccccccccccccccc",
        "p=tls-server-end-point,,m=x,n=u2fhw6eu,r=cccccccccccccccccccccccc",
        "p=tls-server-end-point,,n=u2fhw6eu,r=cccccccccccccccccccccccc,x=1",
        "p=tls-server-end-point,,n=U2FHW6EU,r=cccccccccccccccccccccccc",
        "p=tls-server-end-point,,n=,r=cccccccccccccccccccccccc",
        "p=tls-server-end-point,,n=u2fhw6eu,r=short",
        "p=tls-server-end-point,,n=u2fhw6eu,r=cccccccccccccccccccccccc\n",
        "p=tls-server-end-point,,n=u2fhw6eu,r=ccccccccccccccccccccccc\u0661",
        "p=tls-server-end-point,,n=u2fhw6eu,r=" + "c" * 129,
    ],
)
def test_beginnings_that_are_none(first):
    with pytest.raises(MessageError, match="beginning of a login"):
        ServerLogin(first, SERVER_NONCE, BINDING)


def test_a_proof_before_its_challenge_is_refused():
    client, _, _, final = login()
    with pytest.raises(MessageError, match="no challenge"):
        ServerLogin(client.first, SERVER_NONCE, BINDING).verify(final)


@given(st.text(max_size=80), st.integers(0, 400), st.integers(0, 400))
def test_whatever_is_changed_in_a_proof_it_proves_nothing(text, start, size):
    _, server, _, final = login()
    changed = final[:start] + text + final[start + size :]
    if changed != final and not same_bytes(changed, final):
        with pytest.raises((AuthFailed, MessageError)):
            server.verify(changed)


@pytest.mark.parametrize("more", [b"x", b"x" * 32], ids=["by a byte", "twice as long"])
def test_a_digest_that_is_too_long_is_none(more):
    """What is combined with it is as long as it should be, and would leave the rest aside."""
    client, server, _, final = login()
    without_proof, proof = final.split(",p=")
    with pytest.raises(MessageError):
        server.verify(f"{without_proof},p={base64.b64encode(base64.b64decode(proof) + more).decode()}")
    answer = base64.b64decode(server.verify(final).removeprefix("v="))
    with pytest.raises(MessageError):
        client.verify(f"v={base64.b64encode(answer + more).decode()}")


def same_bytes(one, other):
    """Say whether two proofs differ only in bits that base64 does not use."""
    try:
        return one.split(",p=")[0] == other.split(",p=")[0] and base64.b64decode(
            one.split(",p=")[1]
        ) == base64.b64decode(other.split(",p=")[1])
    except (IndexError, ValueError):
        return False


@given(st.text(alphabet=st.characters(max_codepoint=0x7F) | st.sampled_from("rsivcpn=,"), max_size=200))
def test_every_reader_refuses_what_is_not_its_message(text):
    client, server, _, _ = login()
    for read in (client.final, client.verify, server.verify, lambda text: ServerLogin(text, SERVER_NONCE, BINDING)):
        with pytest.raises((AuthFailed, MessageError)):
            read(text)


@given(st.text(min_size=1, max_size=40), st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_any_secret_salt_and_binding(secret, salt, binding):
    client, server, _, final = login(binding, binding, secret, credentials(secret, salt))
    client.verify(server.verify(final))
