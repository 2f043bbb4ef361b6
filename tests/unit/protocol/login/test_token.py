"""localtunnel.protocol.login.token: the word that a token is, and what is noticed of a bad copy."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import ConfigError
from localtunnel.protocol.login.token import ALPHABET, ID_LENGTH, SECRET_LENGTH, Token, base32, parse

FINGERPRINT = "SHA256:" + base64.b64encode(hashlib.sha256(b"key").digest()).decode().rstrip("=")
TOKEN = Token("u2fhw6eu", "3pxwfausv4goidx75vzcfjpvly", FINGERPRINT)
TEXT = "lt_u2fhw6eu_3pxwfausv4goidx75vzcfjpvly_fryock32azdpsitz6qt4pm4oom2nrzjytt7rm6q5ymhhh6bgw2bq_p3jl7la"


def test_the_text_of_a_token_stays_what_it_is():
    assert TOKEN.text() == TEXT
    assert parse(TEXT) == TOKEN


def test_white_space_around_it_does_not_matter():
    assert parse(f"  {TEXT}\r\n") == TOKEN


def test_its_repr_does_not_tell_the_secret():
    assert TOKEN.secret not in repr(TOKEN)


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_a_copy_that_was_cut_is_refused(length):
    with pytest.raises(ConfigError, match="not a whole token" if length >= 3 else "not a token"):
        parse(TEXT[:length])


@given(st.integers(3, len(TEXT) - 1), st.sampled_from(ALPHABET + "_"))
def test_one_wrong_letter_is_noticed(place, letter):
    wrong = TEXT[:place] + letter + TEXT[place + 1 :]
    if wrong != TEXT:
        with pytest.raises(ConfigError) as raised:
            parse(wrong)
        assert wrong[12:38] not in str(raised.value)


@given(st.integers(3, len(TEXT) - 2))
def test_two_letters_exchanged_are_noticed(place):
    wrong = TEXT[:place] + TEXT[place + 1] + TEXT[place] + TEXT[place + 2 :]
    if wrong != TEXT:
        with pytest.raises(ConfigError):
            parse(wrong)


@given(st.text(max_size=120))
def test_any_other_text_is_none(text):
    with pytest.raises(ConfigError):
        parse(text)


@given(
    st.text(ALPHABET, min_size=ID_LENGTH, max_size=ID_LENGTH),
    st.text(ALPHABET, min_size=SECRET_LENGTH, max_size=SECRET_LENGTH),
    st.binary(min_size=32, max_size=32),
)
def test_every_token_comes_back_from_its_text(name, secret, digest):
    token = Token(name, secret, "SHA256:" + base64.b64encode(digest).decode().rstrip("="))
    assert parse(token.text()) == token


@pytest.mark.parametrize(
    "fingerprint", ["", "SHA256:", "SHA256:abc", "SHA256:!!!!", "MD5:" + FINGERPRINT[7:], FINGERPRINT[7:]]
)
def test_a_fingerprint_that_is_none_makes_no_token(fingerprint):
    with pytest.raises(ConfigError, match="not a fingerprint"):
        Token("u2fhw6eu", "3pxwfausv4goidx75vzcfjpvly", fingerprint).text()


def test_base32_is_that_of_the_standard_in_lower_case():
    assert base32(b"foobar") == "mzxw6ytboi"
