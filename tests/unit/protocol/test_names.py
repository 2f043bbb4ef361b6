"""Which names a tunnel may have (RFC 1123 2.1, RFC 1035 2.3.4, RFC 5891 4.2.3.1), and that generated ones are such."""

import re
from fnmatch import fnmatchcase

import coolname.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import NameInvalid
from localtunnel.protocol import names
from localtunnel.protocol.limits import MAX_NAME

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo", "demo"),
        ("a", "a"),
        ("7", "7"),
        ("3com", "3com"),
        ("123", "123"),
        ("a-b", "a-b"),
        ("a--b", "a--b"),
        ("a-b-c-d", "a-b-c-d"),
        ("abc--d", "abc--d"),
        ("DEMO", "demo"),
        ("DeMo-2", "demo-2"),
        ("n" * MAX_NAME, "n" * MAX_NAME),
        ("wwww", "wwww"),
        ("my-www", "my-www"),
    ],
)
def test_allowed(name: str, expected: str) -> None:
    assert names.check(name) == expected


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("n" * (MAX_NAME + 1), "64 characters"),
        ("n" * 255, "255 characters"),
        ("-demo", "no hyphen at either end"),
        ("demo-", "no hyphen at either end"),
        ("-", "no hyphen at either end"),
        ("a.b", "not a DNS label"),
        ("demo.", "not a DNS label"),
        ("a_b", "not a DNS label"),
        ("a b", "not a DNS label"),
        (" demo", "not a DNS label"),
        ("demo\n", "not a DNS label"),
        ("demo\0", "not a DNS label"),
        ("a/b", "not a DNS label"),
        ("a:80", "not a DNS label"),
        ("*", "not a DNS label"),
        ("d\u00e9mo", "not a DNS label"),
        ("\u0430dmin", "not a DNS label"),
        ("\uff41", "not a DNS label"),
        ("\u0661", "not a DNS label"),
        ("\u212aube", "not a DNS label"),
        ("\u0130", "not a DNS label"),
        ("xn--demo", "third and fourth place"),
        ("XN--DEMO", "third and fourth place"),
        ("ab--cd", "third and fourth place"),
    ],
)
def test_refused_with_the_rule_that_is_broken(name: str, rule: str) -> None:
    with pytest.raises(NameInvalid, match=rule):
        names.check(name)


@pytest.mark.parametrize(
    "host",
    [
        "tunnels.example",
        "bar.tunnels.example",
        "BAR.Tunnels.Example.",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "two words.example",
        "-a.example",
        "a..example",
        ".",
        "x" * 64 + ".example",
        "a." * 130 + "example",
        "www.example.org:80",
        "www.example.org\n",
        "*.example.org",
        "w\u0435b.example.org",
    ],
)
def test_hosts_that_are_none_or_the_server_s_own(host: str) -> None:
    with pytest.raises(NameInvalid):
        names.check_host(host, "tunnels.example")


def test_a_host_of_its_own_loses_its_final_dot() -> None:
    assert names.check_host("WWW.Example.org.", "tunnels.example") == "www.example.org"


@given(st.text(max_size=70))
def test_what_is_allowed_is_a_label(name: str) -> None:
    try:
        checked = names.check(name)
    except NameInvalid:
        return
    assert LABEL.fullmatch(checked)
    assert checked == name.lower()
    assert name.isascii()
    assert names.check(checked) == checked


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_every_label_is_allowed_unless_it_is_kept_for_something(name: str) -> None:
    kept = name[2:4] == "--"
    try:
        assert names.check(name) == name.lower()
        assert not kept
    except NameInvalid:
        assert kept


def test_generated_names_are_allowed_and_distinct() -> None:
    made = [names.generate() for _ in range(2000)]
    assert [names.check(name) for name in made] == made
    # One hundred million combinations: two thousand draws hold a pair that is alike in 2 % of runs, hardly ever five.
    assert len(set(made)) > len(made) - 5


def test_generated_names_are_words_with_hyphens() -> None:
    for _ in range(100):
        assert re.fullmatch(r"[a-z]+(-[a-z]+){2,}", names.generate())


@pytest.mark.parametrize(
    ("patterns", "shape"),
    [
        (["ann-*"], r"ann-[a-z]+(-[a-z]+){2,}"),
        (["*-ann"], r"[a-z]+(-[a-z]+){2,}-ann"),
        (["*"], r"[a-z]+(-[a-z]+){2,}"),
        (["a*b*c"], r"a[a-z]+(-[a-z]+){2,}bc"),
        (["ann-??"], r"ann-[a-z0-9]{2}"),
        (["ann-[0-9]"], r"ann-[0-9]"),
        (["ann-[!a-z0-8]"], r"ann-9"),
        (["demo"], r"demo"),
        (["demo", "ann-*"], r"ann-[a-z]+(-[a-z]+){2,}"),
        (["*.example.org", "-*", "demo"], r"demo"),
        (["shop", "demo"], r"shop"),
    ],
)
def test_a_name_for_patterns_is_one_that_they_cover(patterns: list[str], shape: str) -> None:
    for _ in range(20):
        name = names.generate_for(patterns)
        assert name is not None
        assert re.fullmatch(shape, name)
        assert any(fnmatchcase(name, pattern) for pattern in patterns)


@pytest.mark.parametrize(
    "patterns", [[], ["*.example.org"], ["-*"], ["ann-[A-Z]"], ["a" * 60 + "*"], ["xn--*"], ["["], [""]]
)
def test_patterns_that_no_generated_name_can_meet(patterns: list[str]) -> None:
    assert names.generate_for(patterns) is None


@given(st.lists(st.text("ab-*?[]!.", max_size=255), max_size=4))
def test_whatever_a_server_sends_as_patterns_makes_a_name_or_none(patterns: list[str]) -> None:
    name = names.generate_for(patterns)
    assert name is None or names.check(name) == name


def test_generated_names_come_from_the_system_s_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    made = set()
    for _ in range(20):
        random.seed(1)
        made.add(names.generate())
    assert len(made) > 1


def test_every_word_of_the_generator_is_fit_for_a_label() -> None:
    lists = [entry["words"] for entry in coolname.data.config.values() if "words" in entry]
    words = {word for entry in lists for word in entry}
    assert len(words) > 1000
    assert not {word for word in words if not re.fullmatch("[a-z]+", word)}
