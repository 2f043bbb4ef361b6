"""Programs of Debian's that some tests run beside ours: where they are, or a skip that says what is missing."""

import os
import shutil

import pytest

_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps servers and network tools, which only root's PATH leads to."""

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES])


def is_installed(name: str) -> bool:
    """Say whether there is a program called ``name``."""
    return shutil.which(name, path=PATH) is not None


def installed(name: str) -> str:
    """Return the path of the program ``name``. Skips the test where it is missing."""
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"{name} is not installed; make deps installs it")
    return path


def environment() -> dict[str, str]:
    """Return the environment for programs that run others from the same places."""
    return {**os.environ, "PATH": PATH}
