"""Where the servers and clients of the tests keep what they have to remember: never the user's own directory."""

import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localtunnel.net.tls.keys import make_self_signed
from localtunnel.server.certificates.own import OWN_FILE


@functools.cache
def server_key() -> bytes:
    """Return the key and the certificate of all servers of this run, so that one can take another one's place."""
    return make_self_signed("localhost")


def put_server_key(directory: Path) -> Path:
    """Make ``directory`` a server's data directory, with the key of this run in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / OWN_FILE
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(server_key())
    return directory


@contextmanager
def own_directory() -> Iterator[Path]:
    """Lend an empty directory."""
    with tempfile.TemporaryDirectory(prefix="localtunnel-test-") as name:
        yield Path(name)


@contextmanager
def no_users_files() -> Iterator[None]:
    """Keep this process and those that it starts away from what the user of this machine has stored."""
    kept = {name: os.environ.get(name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "STATE_DIRECTORY")}
    with own_directory() as directory:
        os.environ.pop("STATE_DIRECTORY", None)
        os.environ.update(XDG_DATA_HOME=str(directory / "data"), XDG_CONFIG_HOME=str(directory / "config"))
        try:
            yield
        finally:
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
