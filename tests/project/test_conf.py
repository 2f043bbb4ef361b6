"""conf/: every key with its default and a reason, and a unit that systemd takes."""

import configparser
import re
import shutil
import subprocess

import msgspec
import pytest
from harness.places import ROOT

from localtunnel.cli.settings.config import client_config, server_config
from localtunnel.client.config import ClientConfig
from localtunnel.server.config import ServerConfig

CONF = ROOT / "conf"
FILES = [("server.toml", server_config, ServerConfig), ("client.toml", client_config, ClientConfig)]
KEY = re.compile(r"^(?P<off>#?)(?P<key>[a-z_]+) = ")


def keys(struct, table=""):
    """The paths of every key of a settings struct."""
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, f"{field.name}.")
        else:
            yield table + field.name


def off_keys(text):
    return [match["key"] for line in text.splitlines() if (match := KEY.match(line)) and match["off"]]


@pytest.mark.parametrize(("name", "load", "struct"), FILES)
def test_the_file_is_taken_as_it_is_and_has_the_defaults(name, load, struct):
    assert load({"--config": str(CONF / name)}, {}) == struct()


@pytest.mark.parametrize(("name", "load", "struct"), FILES)
def test_the_file_has_every_key_and_says_each_default(name, load, struct, tmp_path):
    text = (CONF / name).read_text()
    every = re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    values = msgspec.toml.decode(every)
    found = []
    for key, value in values.items():
        found += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
    assert sorted(found) == sorted(keys(struct))
    # Only what has no default can be left out, and what is shown there instead has to be taken too.
    assert off_keys(text) == [field.name for field in msgspec.structs.fields(struct) if field.default is None]
    path = tmp_path / name
    path.write_text(every)
    load({"--config": str(path)}, {})


@pytest.mark.parametrize(("name", "load", "struct"), FILES)
def test_each_key_and_table_has_its_own_comment_above(name, load, struct):
    lines = (CONF / name).read_text().splitlines()
    for number, line in enumerate(lines):
        if KEY.match(line) or line.startswith("["):
            assert re.fullmatch(r"# .+\.", lines[number - 1]), line


def unit():
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(CONF / "lt-server.service")
    return parser


def test_the_unit_waits_longer_than_the_grace():
    service = unit()["Service"]
    assert service["KillSignal"] == "SIGTERM"
    assert float(service["TimeoutStopSec"]) > ServerConfig().grace


def test_the_unit_bounds_the_memory_and_says_what_visitors_may_hold():
    assert unit()["Service"]["MemoryMax"]
    visitors = ServerConfig().limits.visitors
    text = " ".join((CONF / "lt-server.service").read_text().replace("\n#", " ").split())
    assert f"holds up to 96 KiB while its answer does not come: {visitors:,} of them" in text
    assert "nearly 1 GiB" in text
    assert 0.8 * (1 << 30) < visitors * 96 * 1024 < 1 << 30


def test_the_unit_does_not_restart_what_cannot_get_better():
    assert unit()["Service"]["RestartPreventExitStatus"].split() == ["2", "3"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path):
    # verify looks for the command, which is not installed here; everything else is to be as it is in the file.
    text = re.sub(
        r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", (CONF / "lt-server.service").read_text(), flags=re.M
    )
    path = tmp_path / "lt-server.service"
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
