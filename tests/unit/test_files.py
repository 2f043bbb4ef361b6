"""localtunnel.files: modes, whole replacements, the lock, text as editors write it, a read-only file system."""

import codecs
import os
import stat
import subprocess
import sys
import threading

import pytest
from harness import ROOT
from harness.state import put_server_key

from localtunnel import files
from localtunnel.client.trust.credentials import FILE as CREDENTIALS
from localtunnel.client.trust.identity import owner_key
from localtunnel.errors import ConfigError
from localtunnel.protocol.login.token import Token


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets.json"


@pytest.fixture(autouse=True)
def wide_umask():
    """What a service manager or a user may have set must make no difference."""
    before = os.umask(0)
    yield
    os.umask(before)


def replace(path, data):
    with files.locked(path):
        files.replace(path, data)


def test_what_is_written_is_read(path):
    assert files.read(path) is None
    replace(path, b"one")
    assert files.read(path) == b"one"
    replace(path, b"two")
    assert files.read(path) == b"two"


def test_a_stamp_changes_with_the_file(path):
    stamps = [files.stamp(path)]
    for change in (lambda: replace(path, b"one"), lambda: replace(path, b"two"), lambda: path.chmod(0o644)):
        change()
        stamps.append(files.stamp(path))
    assert stamps[0] is None
    assert len(set(stamps)) == 4
    assert files.stamp(path) == stamps[-1]


def test_modes(tmp_path):
    directory = tmp_path / "made" / "data"
    files.make_directory(directory)
    path = directory / "secrets.json"
    replace(path, b"x")
    assert mode(directory) == 0o700
    assert [mode(file) for file in directory.iterdir()] == [0o600, 0o600]


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    files.make_directory(tmp_path)
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("bits", [0o040, 0o020, 0o004, 0o002, 0o001, 0o010])
def test_a_file_that_others_may_use_is_refused(path, bits):
    replace(path, b"x")
    path.chmod(0o600 | bits)
    with pytest.raises(ConfigError, match=f"mode {0o600 | bits:03o}"):
        files.read(path)


@pytest.mark.parametrize("bits", [0o044, 0o040, 0o004, 0o055])
def test_what_is_no_secret_others_may_read(path, bits):
    replace(path, b"x")
    path.chmod(0o600 | bits)
    assert files.read(path, secret=False) == b"x"


@pytest.mark.parametrize("bits", [0o020, 0o002, 0o066])
def test_what_is_no_secret_others_may_not_write(path, bits):
    replace(path, b"x")
    path.chmod(0o600 | bits)
    with pytest.raises(ConfigError, match=f"mode {0o600 | bits:03o}.*chmod 600") as caught:
        files.read(path, secret=False)
    assert "holds secrets" not in str(caught.value)


def test_what_a_killed_writer_left_is_overwritten(path):
    (path.parent / "secrets.json.new").write_bytes(b"half of someth")
    replace(path, b"whole")
    assert files.read(path) == b"whole"
    assert mode(path) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["secrets.json", "secrets.json.lock"]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (path.parent / "secrets.json.new").symlink_to(victim)
    with pytest.raises(ConfigError, match="cannot be written"):
        replace(path, b"x")
    assert victim.read_bytes() == b"precious"


def test_a_disk_that_is_full_leaves_the_old_content(path, monkeypatch):
    replace(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        replace(path, b"new")
    monkeypatch.undo()
    assert files.read(path) == b"old"


def test_file_and_directory_reach_the_disk_in_that_order(path, monkeypatch):
    steps = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor):
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("rename"), rename(old, new)))
    replace(path, b"x")
    assert steps == ["file", "rename", "directory"]


def test_a_file_that_is_too_large_is_refused(path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE", 10)
    replace(path, b"12345678901")
    with pytest.raises(ConfigError, match="more than 10 bytes"):
        files.read(path)


def test_the_lock_keeps_others_out(path):
    """Each thread opens the lock by itself, as processes do, so that the kernel takes them for strangers."""
    replace(path, b"0")

    def add():
        for _ in range(50):
            with files.locked(path):
                files.replace(path, str(int(files.read(path)) + 1).encode())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.read(path) == b"200"


def test_a_directory_that_is_not_there_is_an_error_of_ours(tmp_path):
    path = tmp_path / "missing" / "secrets.json"
    with pytest.raises(ConfigError, match="cannot be made"), files.locked(path):
        pass
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "data"
    with pytest.raises(ConfigError) as caught:
        files.make_directory(path)
    advice = "set data_dir to a directory that this user can write to"
    assert str(caught.value) == f"The directory {path} cannot be made: File exists; {advice}."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for others")
def test_what_root_writes_belongs_to_the_owner_of_the_directory(path):
    os.chown(path.parent, 12345, 12346)
    replace(path, b"x")
    for file in path.parent.iterdir():
        assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/srv/data", {"STATE_DIRECTORY": "/var/lib/localtunnel"}, "/srv/data"),
        ("", {"STATE_DIRECTORY": "/var/lib/localtunnel:/var/lib/other", "HOME": "/home/ann"}, "/var/lib/localtunnel"),
        ("", {"XDG_DATA_HOME": "/data", "HOME": "/home/ann"}, "/data/localtunnel"),
        ("", {"XDG_DATA_HOME": "data", "HOME": "/home/ann"}, "/home/ann/.local/share/localtunnel"),
        ("", {"HOME": "/home/ann"}, "/home/ann/.local/share/localtunnel"),
    ],
)
def test_where_the_data_is(configured, environ, expected):
    assert str(files.data_directory(configured, environ)) == expected


@pytest.mark.parametrize(
    "data",
    [
        "name = 'grün'".encode(),
        codecs.BOM_UTF8 + "name = 'grün'".encode(),
        codecs.BOM_UTF16_LE + "name = 'grün'".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "name = 'grün'".encode("utf-16-be"),
    ],
)
def test_text_is_read_as_its_mark_says(data):
    assert files.text_of(data) == "name = 'grün'"


@pytest.mark.parametrize("data", [b"\xff", codecs.BOM_UTF8 + b"\xff", codecs.BOM_UTF16_LE + b"x"])
def test_what_is_no_text_is_an_error(data):
    with pytest.raises(UnicodeDecodeError):
        files.text_of(data)


# A file system that is mounted read-only: a mount of the test's own, which only its program sees.

MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def on_read_only(directory, *command, **options):
    """Run ``command`` in a namespace in which ``directory`` cannot be written to, not even by root."""
    unshare = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    argv = [*unshare, "sh", "-c", MOUNT, str(directory), *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, **options)


@pytest.fixture
def data(tmp_path):
    """A data directory as environment variables name it, where this machine allows a mount."""
    directory = tmp_path / "localtunnel"
    directory.mkdir(mode=0o700)
    try:
        done = on_read_only(directory, "touch", str(directory / "file"))
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if "Read-only file system" not in done.stderr:
        pytest.skip(f"this machine allows no mount: {done.stderr.strip()}")
    return directory


def read_only_program(directory, name, *argv, **options):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LT_")}
    environ |= {"XDG_DATA_HOME": str(directory.parent), "XDG_CONFIG_HOME": str(directory.parent / "config")}
    return on_read_only(directory, sys.executable, str(ROOT / "bin" / name), *argv, env=environ, **options)


@pytest.mark.parametrize(
    ("command", "has_key", "what"),
    [
        (("lt-server", "--frontend=127.0.0.1:0", "--backend=127.0.0.1:0"), False, "tls.pem.lock"),
        (("lt-server", "--frontend=127.0.0.1:0", "--backend=127.0.0.1:0"), True, "state.db"),
        (("lt-server", "token", "create"), True, "tokens.json.lock"),
        (("lt-server", "fingerprint"), False, "tls.pem.lock"),
        (("lt-client", "login", "example.com"), False, f"{CREDENTIALS}.lock"),
    ],
)
def test_a_read_only_file_system_is_said_to_be_one(data, command, has_key, what):
    if has_key:
        put_server_key(data)
    token = Token("a" * 8, "b" * 26, "SHA256:" + "A" * 43)
    done = read_only_program(data, *command, input=token.text())
    assert done.returncode == 3, done.stderr
    assert f"{data / what} cannot be " in done.stderr
    assert "the file system is read-only; mount it writable, or set data_dir to " in done.stderr
    assert "move it away" not in done.stderr


def test_a_client_s_key_is_read_from_a_read_only_file_system(data):
    key = owner_key(data, "example.com")
    program = (
        "import sys; from pathlib import Path; from localtunnel.client.trust.identity import owner_key;"
        " print(owner_key(Path(sys.argv[1]), 'example.com'))"
    )
    done = on_read_only(data, sys.executable, "-c", program, str(data), cwd=ROOT)
    assert (done.stdout, done.stderr) == (f"{key}\n", "")
