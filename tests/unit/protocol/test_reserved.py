"""localtunnel.protocol.reserved: names that a server keeps for itself, and names that look like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import NameInvalid
from localtunnel.protocol import names, reserved
from localtunnel.protocol.reserved import Reserved, skeletons

ALL = Reserved()


@pytest.mark.parametrize("name", reserved.DEFAULT)
def test_reserved(name: str) -> None:
    for spelling in (name, name.upper(), name.capitalize()):
        with pytest.raises(NameInvalid, match="reserved"):
            ALL.check(spelling)
    assert names.check(name) == name


@pytest.mark.parametrize("name", ["localhost", "www", "mail", "wpad", "autodiscover", "ns1", "meta", "admin", "api"])
def test_names_that_are_trusted_are_on_the_list(name: str) -> None:
    assert name in reserved.DEFAULT


@pytest.mark.parametrize(
    ("name", "looks_like"),
    [
        ("adm1n", "admin"),
        ("ADM1N", "admin"),
        ("ad-min", "admin"),
        ("a-d-m-i-n", "admin"),
        ("adrnin", "admin"),
        ("aclmin", "admin"),
        ("4dmin", "admin"),
        ("ap1", "api"),
        ("4p1", "api"),
        ("w-w-w", "www"),
        ("vvww", "www"),
        ("ma1l", "mail"),
        ("mai1", "mail"),
        ("rnail", "mail"),
        ("l0gin", "login"),
        ("1ogin", "login"),
        ("5upp0r7", "support"),
        ("8lo9", "blog"),
        ("loca1host", "localhost"),
    ],
)
def test_what_looks_like_one(name: str, looks_like: str) -> None:
    with pytest.raises(NameInvalid, match=f"{looks_like!r}, which is reserved"):
        ALL.check(name)
    # Only because that one is on the list.
    Reserved(other for other in reserved.DEFAULT if other != looks_like).check(name)


@pytest.mark.parametrize("name", ["demo", "my-admin", "admins", "wwww", "apis", "mall", "brave-amber-otter", "a1", "1"])
def test_what_does_not(name: str) -> None:
    ALL.check(name)


def test_generated_names_are_not_taken_for_reserved_ones() -> None:
    for _ in range(200):
        ALL.check(names.generate())


def test_a_list_of_the_server_s_own() -> None:
    mine = Reserved(("Shop",))
    mine.check("admin")
    for name in ("shop", "SHOP", "sh0p", "s-hop"):
        with pytest.raises(NameInvalid):
            mine.check(name)
    Reserved(()).check("www")


@pytest.mark.parametrize("name", ["\u0430dmin", "adm\u0131n", "xn--dmin-7pc", "\uff41dmin", "admin\u200b"])
def test_letters_of_other_scripts_never_get_here(name: str) -> None:
    """As they are, or in the form in which DNS carries them."""
    with pytest.raises(NameInvalid):
        names.check(name)


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", fullmatch=True))
def test_a_name_looks_like_itself_in_any_case(name: str) -> None:
    assert skeletons(name) == skeletons(name.upper())
    assert skeletons(name) & skeletons(name.replace("-", ""))
    with pytest.raises(NameInvalid):
        Reserved((name,)).check(name)
