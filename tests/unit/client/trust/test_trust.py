"""localtunnel.client.trust.trust: which server is the right one, in every order of what was given, known and shown."""

import functools
import ssl

import pytest
from harness.state import server_key

from localtunnel import files
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.trust import Trust
from localtunnel.errors import CertificateUnknown, CertificateUntrusted, ConfigError, DowngradeRefused, KeyChanged
from localtunnel.net.tls.keys import fingerprint, make_self_signed

NAME = "example.com:80"


def der(pem):
    text = pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


@functools.cache
def right():
    return der(server_key())


@functools.cache
def wrong():
    return der(make_self_signed("localhost"))


@pytest.fixture
def known(tmp_path):
    return KnownServers(tmp_path)


def meeting(known, **given):
    trust = Trust(NAME, known, **given)
    trust.look_up()
    return trust


def met(known, *, by_roots):
    meeting(known).remember(right(), by_roots=by_roots)


def test_a_server_that_nobody_has_met_is_asked_for_a_certificate_first_and_taken_as_it_is_then(known):
    trust = meeting(known)
    assert trust.by_roots
    assert not trust.is_bound
    trust.check_plain()
    trust.fall_back(CertificateUnknown("self-signed"), unknown_authority=True)
    trust.check(right(), by_roots=False)
    assert known.find(NAME) is None
    assert trust.remember(right(), by_roots=False) == fingerprint(right())
    assert known.find(NAME).fingerprint == fingerprint(right())


def test_from_then_on_it_has_that_key_and_no_other(known):
    met(known, by_roots=False)
    trust = meeting(known)
    assert not trust.by_roots
    assert trust.is_bound
    trust.check(right(), by_roots=False)
    with pytest.raises(KeyChanged) as caught:
        trust.check(wrong(), by_roots=False)
    for part in (NAME, fingerprint(wrong()), fingerprint(right()), f"line 3 of {known.path}", "nothing was sent"):
        assert part in str(caught.value)


def test_it_is_told_once_that_a_key_is_new(known):
    met(known, by_roots=False)
    assert meeting(known).remember(right(), by_roots=False) is None


def test_a_server_that_was_verified_may_change_its_key_but_not_do_without(known):
    met(known, by_roots=True)
    trust = meeting(known)
    assert trust.by_roots
    trust.check(wrong(), by_roots=True)
    assert trust.remember(wrong(), by_roots=True) is None
    for unknown in (True, False):
        with pytest.raises(KeyChanged, match="was verified by a certificate authority before"):
            trust.fall_back(CertificateUnknown("self-signed."), unknown_authority=unknown)


def test_a_certificate_for_another_name_or_time_is_no_first_contact(known):
    with pytest.raises(CertificateUntrusted, match=r"expired\. Check the server's name .* --fingerprint"):
        meeting(known).fall_back(CertificateUntrusted("It has expired."), unknown_authority=False)


@pytest.mark.parametrize("before", [None, "pin", "roots"])
def test_a_fingerprint_that_the_user_gives_counts_before_everything(known, before):
    if before:
        meeting(known).remember(wrong(), by_roots=before == "roots")
    trust = meeting(known, pinned=fingerprint(right()))
    assert not trust.by_roots
    assert trust.is_bound
    trust.check(right(), by_roots=False)
    with pytest.raises(KeyChanged, match="not the one that you gave"):
        trust.check(wrong(), by_roots=False)
    trust.remember(right(), by_roots=False)
    assert known.find(NAME).mode == (before or "pin")
    if before != "roots":
        assert known.find(NAME).fingerprint == fingerprint(right())


def test_a_fingerprint_of_a_token_counts_for_the_first_contact(known):
    trust = meeting(known, introduced=fingerprint(right()))
    assert trust.by_roots
    assert trust.is_bound
    for unknown in (True, False):
        trust.fall_back(CertificateUntrusted("self-signed"), unknown_authority=unknown)
    with pytest.raises(KeyChanged, match="not the one of your token"):
        trust.check(wrong(), by_roots=False)
    trust.check(right(), by_roots=False)


def test_a_pin_counts_before_the_fingerprint_of_a_token(known):
    met(known, by_roots=False)
    trust = meeting(known, introduced=fingerprint(wrong()))
    trust.check(right(), by_roots=False)
    with pytest.raises(KeyChanged, match="line 3"):
        trust.check(wrong(), by_roots=False)


@pytest.mark.parametrize("by_roots", [True, False])
def test_a_server_that_was_met_is_not_used_without_encryption(known, by_roots):
    met(known, by_roots=by_roots)
    with pytest.raises(DowngradeRefused, match=r"Leave --insecure out, or remove line 3"):
        meeting(known).check_plain()


FAULTS = {
    "writable": lambda path: path.chmod(0o666),
    "damaged": lambda path: path.write_text("what?\n"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_goes_bad_stops_the_next_run_and_not_this_one(known, caplog, fault):
    met(known, by_roots=False)
    trust = meeting(known)
    FAULTS[fault](known.path)
    for _ in range(3):
        trust.look_up()
    trust.check(right(), by_roots=False)
    with pytest.raises(KeyChanged):
        trust.check(wrong(), by_roots=False)
    with pytest.raises(DowngradeRefused):
        trust.check_plain()
    assert [record.message for record in caplog.records] == ["known servers not read again"]
    with pytest.raises(ConfigError):
        meeting(known)


def test_what_cannot_be_written_down_is_remembered_for_this_run(known, monkeypatch, caplog):
    def full(path, data):
        raise ConfigError("The disk is full.")

    monkeypatch.setattr(files, "replace", full)
    trust = meeting(known)
    assert trust.remember(right(), by_roots=False)
    assert "server not remembered" in caplog.messages
    trust.look_up()
    with pytest.raises(KeyChanged, match="its line in"):
        trust.check(wrong(), by_roots=False)


@pytest.mark.parametrize(
    ("before", "given", "takes"),
    [
        (None, {}, True),
        ("pin", {}, True),
        ("roots", {}, True),
        ("other", {}, False),
        (None, {"pinned": fingerprint(right())}, True),
        (None, {"pinned": fingerprint(wrong())}, False),
    ],
)
def test_a_token_that_was_found_later_is_not_for_a_server_with_another_key(known, before, given, takes):
    if before is not None:
        meeting(known).remember(wrong() if before == "other" else right(), by_roots=before == "roots")
    trust = Trust(NAME, known, **given)
    assert trust.introduce(fingerprint(right())) is takes
    if takes and before is None and not given:
        assert trust.is_bound
        with pytest.raises(KeyChanged, match="the one of your token"):
            trust.check(wrong(), by_roots=False)
