"""What is built of this checkout: a source distribution and a wheel that have everything a user needs, and work."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from harness import ROOT

from localtunnel import __version__

pytestmark = pytest.mark.slow

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
NAME = f"localtunnel-{__version__}"
CONF = ("client.toml", "server.toml", "lt-server.service")
DOCUMENTS = ("README.md", "PROTOCOL.md", "CHANGELOG.md", "SECURITY.md")
PAGES = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.*")}


def build(hook: str, tree: Path, directory: Path) -> Path:
    """Have the build backend that pyproject.toml names build ``tree``, without a network; return what it has made."""
    subprocess.run([sys.executable, "-c", BUILD, hook, str(directory)], cwd=tree, check=True, capture_output=True)
    (made,) = directory.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: building leaves files in the tree."""
    pytest.importorskip("setuptools", reason="the build backend is not installed here")
    tree = tmp_path_factory.mktemp("tree") / "clone"
    kept_out = shutil.ignore_patterns(".git", ".venv*", ".*cache", ".hypothesis", "__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=kept_out)
    return build("build_sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from the source distribution, as whoever has nothing else does."""
    directory = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, which is Debian 12's, has no filters yet.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(directory)
    return build("build_wheel", directory / NAME, tmp_path_factory.mktemp("wheel"))


def test_the_source_distribution_has_what_a_clone_has(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    for name in (
        *DOCUMENTS,
        "LICENSE",
        "Makefile",
        "CONTRIBUTING.md",
        "bin/lt-server",
        "tests/conftest.py",
        "tools/deps",
    ):
        assert name in names
    for directory in ("conf", "localtunnel/conf"):
        assert {f"{directory}/{name}" for name in CONF} <= names
    assert names >= PAGES
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_has_settings_and_documents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    assert {f"localtunnel/conf/{name}" for name in CONF} <= names
    share = f"{NAME}.data/data/share/doc/localtunnel/"
    assert {f"{share}{name}" for name in DOCUMENTS} <= names
    assert {share + page for page in PAGES} <= names
    assert "localtunnel/py.typed" in names
    assert "Requires-Python: >=3.10" in metadata


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_wheel_alone_prints_the_settings(wheel: Path, tmp_path: Path, side: str) -> None:
    """Unpacked away from any checkout; the libraries are those of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "localtunnel", side, "--print-config"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "conf" / f"{side}.toml").read_text()
