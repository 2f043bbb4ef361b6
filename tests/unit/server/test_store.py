"""localtunnel.server.store: what is written survives, what cannot be written is said so, and the hub never waits."""

import os
import resource
import stat
import threading
from contextlib import contextmanager

import gevent
import pytest
from harness import CAP, at_most, wait_until

from localtunnel.errors import ConfigError, StorageError
from localtunnel.server import store as store_module
from localtunnel.server.store import FILE, Statement, Store

pytestmark = pytest.mark.usefixtures("no_leaks")

SCHEMA = ("CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, size INTEGER)",)
PUT = "INSERT OR REPLACE INTO things VALUES (?, ?)"
ALL = Statement("SELECT name, size FROM things ORDER BY name")


@contextmanager
def opened(directory):
    store = Store(directory, SCHEMA)
    store.open()
    try:
        yield store
    finally:
        store.close()


def test_what_was_written_is_there_for_the_next_server(tmp_path):
    with opened(tmp_path) as store:
        store.write(Statement(PUT, ("one", 1)))
        store.post(Statement(PUT, ("two", 2)))
        store.post(Statement(PUT, ("one", 3)))
    with opened(tmp_path) as store:
        assert store.read(ALL) == [("one", 3), ("two", 2)]


def test_nobody_else_may_read_any_of_its_files(tmp_path):
    before = os.umask(0)
    try:
        with opened(tmp_path / "data") as store:
            store.write(Statement(PUT, ("one", 1)))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
            assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert modes
    assert set(modes.values()) == {0o600}


def test_it_is_durable_when_write_returns(tmp_path):
    """WAL with FULL: the pragma is what stands between this and a loss of power, which no test can cause."""
    with opened(tmp_path) as store:
        assert store.read(Statement("PRAGMA journal_mode")) == [("wal",)]
        assert store.read(Statement("PRAGMA synchronous")) == [(2,)]


def test_a_second_server_is_refused_and_told_why(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "LOCK_PATIENCE", 0.05)
    with opened(tmp_path) as store:
        with pytest.raises(ConfigError, match=r"Another lt-server uses .* data_dir of its own"):
            Store(tmp_path, SCHEMA).open()
        store.write(Statement(PUT, ("one", 1)))
    with opened(tmp_path) as store:
        assert store.read(ALL) == [("one", 1)]


def test_a_predecessor_that_is_about_to_end_is_waited_for_and_not_in_silence(tmp_path, caplog):
    first = Store(tmp_path, SCHEMA)
    first.open()

    def end_when_told():
        wait_until(lambda: caplog.records)
        first.close()

    ending = gevent.spawn(end_when_told)
    with opened(tmp_path) as store:
        store.write(Statement(PUT, ("one", 1)))
    ending.get()
    (record,) = caplog.records
    assert (record.levelname, record.directory) == ("WARNING", str(tmp_path))
    assert record.getMessage() == "another lt-server uses the data directory, waiting for it to end"


def test_nothing_is_said_where_nobody_else_is(tmp_path, caplog):
    with opened(tmp_path):
        assert caplog.records == []


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look like one" * 40, b"SQLite"])
def test_a_damaged_file_is_not_made_good_by_forgetting(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="move it away"):
        Store(tmp_path, SCHEMA).open()
    assert path.read_bytes() == content


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        Store(tmp_path / "file" / "data", SCHEMA).open()


@contextmanager
def no_room(path):
    """Let no file of this process grow: what a full disk says, but for this process only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_that_says_so_and_loses_nothing(tmp_path):
    with opened(tmp_path) as store:
        store.write(Statement(PUT, ("one", 1)))
        with no_room(tmp_path / FILE), pytest.raises(StorageError, match="try again later"):
            for number in range(1000):
                store.write(Statement(PUT, (f"more-{number}" * 200, number)))
        assert ("one", 1) in store.read(ALL)
        store.write(Statement(PUT, ("two", 2)))
    with opened(tmp_path) as store:
        rows = store.read(ALL)
        assert ("one", 1) in rows
        assert ("two", 2) in rows


def test_what_is_asked_for_meanwhile_is_written_together(tmp_path, monkeypatch):
    sizes = []
    commit = Store._commit
    asked = threading.Event()

    def counted(self, statements):
        sizes.append(len(statements))
        asked.wait(CAP)
        commit(self, statements)

    monkeypatch.setattr(Store, "_commit", counted)
    with opened(tmp_path) as store, at_most(CAP):
        writers = [gevent.spawn(store.write, Statement(PUT, (f"{number}", number))) for number in range(500)]
        gevent.sleep(0)
        asked.set()
        gevent.joinall(writers, raise_error=True)
        assert len(store.read(ALL)) == 500
    assert sum(sizes) == 500
    assert len(sizes) <= 3


def failure_of(store, statement):
    """Return what a write raises."""
    try:
        store.write(statement)
    except StorageError as error:
        return error
    return None


def test_one_bad_change_fails_those_that_were_written_with_it_and_no_other(tmp_path):
    with opened(tmp_path) as store:
        bad = gevent.spawn(failure_of, store, Statement("INSERT INTO nowhere VALUES (1)"))
        good = gevent.spawn(failure_of, store, Statement(PUT, ("one", 1)))
        assert isinstance(bad.get(), StorageError)
        assert isinstance(good.get(), StorageError)
        assert store.read(ALL) == []
        store.write(Statement(PUT, ("one", 1)))
        assert store.read(ALL) == [("one", 1)]


def test_the_hub_goes_on_while_the_disk_is_slow(tmp_path, monkeypatch):
    written = threading.Event()
    with opened(tmp_path) as store:
        monkeypatch.setattr(Store, "_commit", lambda self, statements: written.wait(CAP))
        writer = gevent.spawn(store.write, Statement(PUT, ("one", 1)))
        with at_most(1.0, "the hub's turns"):
            for _ in range(20):
                gevent.sleep(0.001)
        assert not writer.dead
        written.set()
        with at_most(CAP):
            writer.get()


def test_closing_twice_and_writing_after_that(tmp_path):
    store = Store(tmp_path, SCHEMA)
    store.close()
    store.open()
    store.close()
    store.close()


def test_errors_of_reading_are_ours_too(tmp_path):
    with opened(tmp_path) as store, pytest.raises(StorageError):
        store.read(Statement("SELECT * FROM nowhere"))
