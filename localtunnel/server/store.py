"""Leases and bans in one SQLite file. The hub never waits for the disk.

SQLite runs on a thread of its own, so that a disk that hangs blocks no other thread
pool. Statements that arrive during a transaction are committed together in the next
one: a thousand clients that come back after a restart wait for a few flushes and not
for a thousand. In WAL mode with ``synchronous=FULL``, neither SIGKILL nor a loss of
power undoes a change after ``write`` has returned.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from localtunnel import files
from localtunnel.errors import ConfigError, StorageError

log = logging.getLogger("localtunnel.server")

FILE = "state.db"

LOCK_PATIENCE = 5.0
"""Seconds to wait for a previous server that still has the file: a service manager may
start the next one early."""

CLOSE_PATIENCE = 5.0
"""Seconds that a stopping server allows for pending writes. A flush takes milliseconds
unless the disk hangs."""


class Statement(NamedTuple):
    """One SQL statement with its values."""

    sql: str
    values: tuple[object, ...] = ()


class _Batch:
    """Changes that are committed together, and the result that ``write`` waits for."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.done = AsyncResult()


class Store:
    """The database in ``directory``. Call ``open`` first and ``close`` last."""

    def __init__(self, directory: Path, schema: Sequence[str]) -> None:
        self._path = directory / FILE
        self._schema = schema
        self._pool: Any = None
        self._connection: sqlite3.Connection | None = None
        self._next = _Batch()
        self._idle = Event()
        self._idle.set()

    def open(self) -> None:
        """Open or create the file, for this process alone.

        Blocks the greenlet. Raises ConfigError.
        """
        files.make_directory(self._path.parent)
        self._pool = ThreadPool(1)
        try:
            self._connection = self._connect_when_free()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise ConfigError(self._why_not_opened(error)) from error

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of a query; blocks the greenlet. Raises StorageError."""
        try:
            rows: list[tuple[Any, ...]] = self._in_thread(self._fetch, statement)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return rows

    def write(self, statement: Statement) -> None:
        """Make a change; blocks the greenlet until it is on the disk.

        Raises StorageError when it is not, and will not be.
        """
        batch = self._add(statement)
        try:
            batch.done.get()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def post(self, statement: Statement) -> None:
        """Make a change soon, in the order of the calls. A failure is only logged."""
        self._add(statement)

    def close(self) -> None:
        """Write pending changes, close the file and end the thread.

        Blocks the greenlet. Idempotent.
        """
        if self._pool is None:
            return
        if not self._idle.wait(CLOSE_PATIENCE):
            # The thread hangs in the disk. Waiting for it would hang as well.
            log.error("the server's state is not written to the end", extra={"file": str(self._path)})
            return
        pool, self._pool = self._pool, None
        if self._connection is not None:
            pool.apply(self._connection.close)
            self._connection = None
        pool.kill()

    def _connect_when_free(self) -> sqlite3.Connection:
        """Connect.

        If another server has the file, warn, and wait LOCK_PATIENCE for its end.
        """
        try:
            connection: sqlite3.Connection = self._in_thread(self._connect, 0.0)
        except sqlite3.OperationalError as error:
            if not _is_locked(error):
                raise
            log.warning(
                "another lt-server uses the data directory, waiting for it to end",
                extra={"directory": str(self._path.parent), "seconds": LOCK_PATIENCE},
            )
            connection = self._in_thread(self._connect, LOCK_PATIENCE)
        return connection

    def _in_thread(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call ``function`` in the thread; blocks the greenlet.

        Returns or raises as it does.
        """
        result, error = self._pool.apply(_attempt, (function, arguments))
        if error is not None:
            raise error
        return result

    def _add(self, statement: Statement) -> _Batch:
        batch = self._next
        batch.statements.append(statement)
        if self._idle.is_set():
            self._idle.clear()
            gevent.spawn(self._write_batches)
        return batch

    def _write_batches(self) -> None:
        """Commit one batch after another until none is left."""
        while self._next.statements:
            batch, self._next = self._next, _Batch()
            try:
                self._in_thread(self._commit, batch.statements)
            except sqlite3.Error as error:
                log.error("cannot write the server's state", extra={"file": str(self._path), "error": str(error)})
                batch.done.set_exception(error)
            else:
                batch.done.set(None)
        self._idle.set()

    # What follows runs in the thread.

    def _connect(self, patience: float) -> sqlite3.Connection:
        # SQLite would create the file with the modes of the umask. Its journal gets
        # those of the file.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE_FILE))
        connection = sqlite3.connect(self._path, timeout=patience, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            for sql in self._schema:
                connection.execute(sql)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _fetch(self, statement: Statement) -> list[tuple[Any, ...]]:
        return self._open_connection().execute(*statement).fetchall()

    def _commit(self, statements: Sequence[Statement]) -> None:
        connection = self._open_connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(*statement)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite ends a transaction by itself after some errors, such as a full
            # disk.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the store is closed")
        return self._connection

    def _why_not_opened(self, error: Exception) -> str:
        if _is_locked(error):
            return (
                f"Another lt-server uses the data directory {self._path.parent}; stop it first, or give this one a"
                " data_dir of its own."
            )
        if isinstance(error, OSError):
            return f"The server's state in {self._path} cannot be opened: {files.reason(error)}."
        return (
            f"The server's state in {self._path} cannot be opened: {error}. If the file is damaged, move it away: the"
            " names in it are free then, and its bans are gone."
        )

    def _failure(self, error: Exception) -> StorageError:
        return StorageError(f"The server cannot write to {self._path.name} at the moment ({error}); try again later.")


def _is_locked(error: Exception) -> bool:
    return "locked" in str(error)


def _attempt(function: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[Any, Exception | None]:
    """Return an error as a value: gevent prints those that are raised in a thread."""
    try:
        return function(*arguments), None
    except (OSError, sqlite3.Error) as error:
        return None, error
