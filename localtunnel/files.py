"""Files with secrets: readable by their owner only, replaced as a whole, written by one
process at a time.

When a writer is killed, the file has its old content or its new one. Both programs use
this module, which knows paths and bytes, but not their meaning.
"""

import codecs
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from localtunnel.errors import ConfigError

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700

Stamp = tuple[int, int, int, int]

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file that is read whole: 50,000 tokens. A larger file is not one of
ours."""


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def text_of(data: bytes) -> str:
    """Return the text of a file that a person has edited: UTF-8, unless a byte order
    mark says otherwise.

    The mark itself is dropped. Editors and shells of Windows write one,
    also into files that a Linux there reads. Raises UnicodeDecodeError.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def reason(error: OSError) -> str:
    """Return why something cannot be written, and what to do about it: the end of a
    sentence without its full stop."""
    if error.errno == errno.EROFS:
        return "the file system is read-only; mount it writable, or set data_dir to a directory that is"
    text = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR):
        return f"{text}; set data_dir to a directory that this user can write to"
    return text


def data_directory(configured: str, environ: Mapping[str, str]) -> Path:
    """Return where a program keeps what it must not lose.

    That is ``configured``, or else the first that is set of ``$STATE_DIRECTORY``, which
    systemd makes, and ``$XDG_DATA_HOME/localtunnel``, or else
    ``~/.local/share/localtunnel``. Nothing is made here.
    """
    if configured:
        return Path(configured).expanduser()
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    return xdg("XDG_DATA_HOME", environ, ".local", "share") / "localtunnel"


def xdg(variable: str, environ: Mapping[str, str], *below: str) -> Path:
    """Return a base directory of the XDG standard: that of ``variable``, or else the
    one ``below`` the user's home.

    A relative path in the variable is ignored, as the standard says.
    """
    base = Path(environ.get(variable) or "")
    return base if base.is_absolute() else Path(environ.get("HOME") or os.path.expanduser("~"), *below)


def make_directory(path: Path) -> None:
    """Make ``path`` and its missing parents, readable by their owner only. An existing
    directory is left unchanged.

    Raises ConfigError.
    """
    if path.is_dir():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The directory {path} cannot be made: {reason(error)}.") from error


def read(path: Path, *, secret: bool = True) -> bytes | None:
    """Return the content of a private file, or None when there is none.

    Raises ConfigError when other users have access to it, since they may know its
    content. They may read a file that is not ``secret``, but not write it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be read: {error.strerror}.") from error
    if secret and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"The file {path} holds secrets, and other users than its owner have access to it (mode "
            f"{mode & 0o777:03o}). Run chmod 600 {path}, and replace the secrets in it if they may have been read."
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"The file {path} can be written by other users than its owner (mode {mode & 0o777:03o}), so that nothing "
            f"in it can be relied on. Look through it, then run chmod 600 {path}."
        )
    if len(data) > MAX_FILE:
        raise ConfigError(f"The file {path} has more than {MAX_FILE} bytes; it cannot be the right one.")
    return data


def stamp(path: Path) -> Stamp | None:
    """Return what changes with the file, its mode included; None where there is none.

    A replaced file is another inode even within one tick of the clock.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def replace(path: Path, data: bytes) -> None:
    """Make ``data`` the content of ``path``, which survives a loss of power once this
    returns.

    The caller holds ``locked(path)``: the temporary file beside it has a fixed name, so
    that killed writers leave one at most. Raises ConfigError, with the old content in
    place.
    """
    fresh = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(fresh, flags, PRIVATE_FILE), "wb") as file:
            os.fchmod(file.fileno(), PRIVATE_FILE)
            _give_to_owner(file.fileno(), path.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be written: {reason(error)}.") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` against every other process and thread that asks for
    it; blocks until it is free.

    The lock is a file of its own beside ``path``, which is never removed: ``path``
    itself is another file after each ``replace``. The kernel releases it when its
    holder dies. Raises ConfigError.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise ConfigError(f"The file {lock} cannot be made: {reason(error)}.") from error
    try:
        _give_to_owner(descriptor, path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a file that root writes to the directory's owner: a command of root must not
    lock the server out."""
    if os.geteuid() == 0:
        found = os.stat(directory)
        os.fchown(descriptor, found.st_uid, found.st_gid)


def _sync_directory(path: Path) -> None:
    """Write the directory's own entries to the disk: a rename is one of them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
