"""localtunnel.client.trust.known_servers: a file that programs write and people edit."""

import stat
import subprocess
import sys

import pytest
from harness import ROOT

from localtunnel.client.trust.known_servers import FILE, Known, KnownServers
from localtunnel.errors import ConfigError

ONE = "SHA256:" + "A" * 43
TWO = "SHA256:" + "B" * 42 + "A"


@pytest.fixture
def known(tmp_path):
    return KnownServers(tmp_path / "data")


def test_nothing_is_known_at_first_and_nothing_is_made(known):
    assert known.find("example.com:80") is None
    assert not known.path.parent.exists()


def test_what_is_remembered_is_found_under_the_name_and_no_other(known):
    known.remember("example.com:80", "pin", ONE)
    known.remember("example.com:8000", "roots", None)
    assert known.find("example.com:80") == Known("pin", ONE, 3)
    assert known.find("example.com:8000") == Known("roots", None, 4)
    assert known.find("example.com") is None


def test_the_line_is_the_one_in_the_file(known):
    known.remember("example.com:80", "pin", ONE)
    number = known.find("example.com:80").line
    assert known.path.read_text().splitlines()[number - 1] == f"example.com:80 pin {ONE} 0.3"


def test_what_is_remembered_takes_the_place_of_what_was(known):
    known.remember("example.com:80", "pin", ONE)
    known.remember("other:80", "pin", TWO)
    known.remember("example.com:80", "pin", TWO)
    assert known.find("example.com:80").fingerprint == TWO
    assert known.path.read_text().count("example.com:80 ") == 1


def test_the_file_is_its_owners_alone(known):
    known.remember("example.com:80", "pin", ONE)
    assert stat.S_IMODE(known.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(known.path.parent.stat().st_mode) == 0o700


def test_comments_and_blank_lines_of_the_user_stay(known):
    known.remember("example.com:80", "pin", ONE)
    text = known.path.read_text() + "\n# the one at work\n"
    known.path.write_text(text)
    known.remember("other:80", "roots", None)
    assert known.path.read_text() == text + "other:80 roots - 0.3\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_that_an_editor_adds_does_no_harm(known, encoding):
    known.remember("example.com:80", "pin", ONE)
    known.path.write_text(f"example.com:80 pin {TWO} 0.3\n", encoding=encoding)
    assert known.find("example.com:80") == Known("pin", TWO, 1)
    known.remember("other:80", "roots", None)
    assert known.path.read_text() == f"example.com:80 pin {TWO} 0.3\nother:80 roots - 0.3\n"


@pytest.mark.parametrize(
    "line",
    [
        "example.com:80",
        "example.com:80 pin 0.3",
        f"example.com:80 maybe {ONE} 0.3",
        f"example.com:80 pin {ONE} 0.2",
        f"example.com:80 pin {ONE[:-1]} 0.3",
        "example.com:80 pin - 0.3",
        f"example.com:80 pin {ONE} 0.3 more",
    ],
)
def test_a_line_that_cannot_be_understood_is_named(known, line):
    """It may be the one of this server: passing over it would be to trust anybody."""
    known.remember("other:80", "pin", ONE)
    known.path.write_text(known.path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"{FILE}, line 4"):
        known.find("example.com:80")


def test_a_file_that_is_no_text_is_refused(known):
    known.remember("other:80", "pin", ONE)
    known.path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        known.find("example.com:80")


def test_a_file_that_others_may_read_is_taken(known):
    known.remember("other:80", "pin", ONE)
    known.path.chmod(0o644)
    assert known.find("other:80").fingerprint == ONE
    known.remember("another:80", "roots", None)
    assert known.find("other:80").fingerprint == ONE


def test_a_file_that_others_may_write_is_refused(known):
    known.remember("other:80", "pin", ONE)
    known.path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod 600"):
        known.find("other:80")


def test_clients_that_meet_servers_at_once_lose_nothing(known):
    program = (
        "import sys; from pathlib import Path; from localtunnel.client.trust.known_servers import KnownServers\n"
        "for n in range(20): KnownServers(Path(sys.argv[1])).remember(f'{sys.argv[2]}-{n}:80', 'roots', None)"
    )
    command = [sys.executable, "-c", program, str(known.path.parent)]
    for process in [subprocess.Popen([*command, name], cwd=ROOT) for name in "abcd"]:
        assert process.wait(timeout=60) == 0
    assert all(known.find(f"{name}-{n}:80") for name in "abcd" for n in range(20))
