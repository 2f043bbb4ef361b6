"""Metadata, dependencies and entry points; the build system and the tools' settings are in pyproject.toml."""

import re
from collections.abc import Iterator
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """The version that the package states, read without importing it: its dependencies are not there yet."""
    text = (HERE / "localtunnel" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("localtunnel/__init__.py has no line that sets __version__.")
    return match[1]


def long_description() -> str:
    """The README."""
    return (HERE / "README.md").read_text(encoding="utf-8")


def pages() -> Iterator[tuple[str, list[str]]]:
    """Every folder of docs/, and the files in it."""
    for folder in sorted(path for path in HERE.glob("docs/**/") if path.is_dir()):
        files = sorted(str(path.relative_to(HERE)) for path in folder.glob("*.*"))
        yield f"share/doc/localtunnel/{folder.relative_to(HERE)}", files


setup(
    name="localtunnel",
    version=version(),
    description="Expose a local web server through the Localtunnel Protocol: the server and the client",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="localtunnel contributors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: Proxy Servers",
        "Topic :: Internet :: WWW/HTTP",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["localtunnel", "localtunnel.*"]),
    # localtunnel/conf is a link to conf/: what --print-config prints has to be inside the package.
    package_data={"localtunnel": ["py.typed", "conf/*.toml", "conf/*.service"]},
    data_files=[
        ("share/doc/localtunnel", ["README.md", "PROTOCOL.md", "CHANGELOG.md", "SECURITY.md"]),
        *pages(),
    ],
    python_requires=">=3.10",
    install_requires=[
        "gevent>=26.9",
        "greenlet>=3.2",
        "docopt-ng>=0.9",
        "httptools>=0.6.4",
        "msgspec>=0.19",
        "coolname>=2.2",
        "cryptography>=43",
        'tomli>=2; python_version < "3.11"',
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "websocket-client>=1.8",
            "websockets>=13",
            "flask>=3",
            "django>=4.2",
            "gunicorn>=22",
            "uvicorn>=0.30",
            "daphne>=4.1",
            "coverage>=7.6",
            "trustme>=1.2",
            "setuptools>=77",
        ],
        "fuzz": [
            "atheris>=2.3",
        ],
        "lint": [
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<3",
        ],
    },
    entry_points={
        "console_scripts": [
            "lt-server = localtunnel.cli.server:main",
            "lt-client = localtunnel.cli.client:main",
        ],
    },
)
