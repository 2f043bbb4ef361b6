"""localtunnel.files: modes, whole replacements and the lock."""

import os
import stat
import threading

import pytest

from localtunnel import files
from localtunnel.errors import ConfigError


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
    with pytest.raises(ConfigError, match="cannot be made"):
        files.make_directory(tmp_path / "file" / "data")


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
