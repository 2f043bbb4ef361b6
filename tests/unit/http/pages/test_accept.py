"""localtunnel.http.pages.accept: the table of what clients really send, and nothing that hurts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.pages.accept import choose

TEXT, JSON, HTML = OFFERED = ("text/plain", "application/json", "text/html")

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        (CHROME, HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        ("text/html, application/xhtml+xml, image/jxr, */*", HTML),
        ("image/avif,image/webp,image/*,*/*;q=0.8", TEXT),
        ("application/json", JSON),
        ("application/json, text/plain, */*", JSON),
        ("application/json, text/javascript, */*; q=0.01", JSON),
        ("text/plain, application/json", TEXT),
        ("application/*", JSON),
        ("text/*", TEXT),
        ("text/*;q=0.5, text/html", HTML),
        ("text/html;q=0.2, application/json;q=0.3", JSON),
        ("text/html;level=1, text/plain;q=0.9", HTML),
        ("TEXT/HTML", HTML),
        ("text/html ; q=1.000 , */*;q=0.999", HTML),
        ("*/*, text/plain;q=0", JSON),
        ("text/plain;q=0, application/json;q=0, */*;q=0.1", HTML),
        ("text/html;q=0", TEXT),
        ("*/*;q=0", TEXT),
        ("image/png", TEXT),
        ("text/html;q=2, application/json;q=0.1", JSON),
        ("text/html;q=nan, text/html;q=-1, application/json", JSON),
        (",,;;=,q=1", TEXT),
    ],
)
def test_choice(accept: str, chosen: str) -> None:
    assert choose(accept, OFFERED) == chosen


def test_only_the_first_elements_of_an_endless_field_count() -> None:
    assert choose("a/b," * 63 + "text/html", OFFERED) == HTML
    assert choose("a/b," * 64 + "text/html", OFFERED) == TEXT


@given(st.text(st.sampled_from("texhmlpain/*,;q=01.\t ")) | st.text())
def test_whatever_is_sent_something_offered_comes_back(accept: str) -> None:
    assert choose(accept, OFFERED) in OFFERED
