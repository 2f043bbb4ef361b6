"""The import rules, read from the source by ast: between the parts of the package, and between the rooms of a part."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from harness.places import ROOT

PACKAGE = ROOT / "localtunnel"

BELOW = {
    "cli": {"server", "client", "net", "protocol", "http", "networks", "files", "errors"},
    "server": {"net", "protocol", "http", "networks", "files", "errors"},
    "client": {"net", "protocol", "http", "networks", "files", "errors"},
    "net": {"protocol", "errors"},
    "protocol": {"errors"},
    "http": {"networks", "errors"},
    "networks": {"errors"},
    "files": {"errors"},
    "errors": set(),
    "__main__": {"cli"},
    # The package itself names its public API, for type checkers and on first use.
    "localtunnel": {"server", "client"},
}
"""What each part may import besides itself, and besides ``__version__`` of the package."""

LOWEST = {"config", "stats", "store"}
GUARDS = {"limits", "certificates", *LOWEST}
TUNNELS = {"access", *GUARDS}
DOORS = {"names", "tunnels", *TUNNELS}

TOLD = {"config", "events"}
BASICS = {"usage", "program", "writer", "amounts", "clean", "exit_codes"}

INSIDE = {
    "server": {
        "app": {"clients", "operator", "visitors", *DOORS},
        # The three doors never import each other: what one needs of another is handed in by ``app``.
        "clients": DOORS,
        "operator": DOORS,
        "visitors": DOORS,
        "names": {"tunnels", *TUNNELS},
        "tunnels": TUNNELS,
        # It counts failed logins, and words to banned addresses.
        "access": GUARDS,
        "limits": LOWEST,
        "certificates": LOWEST,
        "config": set(),
        "stats": set(),
        "store": set(),
    },
    "http": {
        "conversation": {"lending", "forwarding", "options", "message"},
        "lending": {"message"},
        "exchange": {"message"},
        "observer": {"exchange", "message"},
        "forwarding": {"options", "message"},
        "options": {"message", "grammar"},
        "pages": {"message", "grammar"},
        "message": {"grammar"},
        "grammar": set(),
    },
    "client": {
        "app": {"fallback", "retry", "sessions", "visits", "trust", *TOLD, "discovery", "options"},
        "fallback": {"sessions", "trust", *TOLD},
        "sessions": {"visits", "trust", *TOLD},
        "visits": {"events"},
        "retry": {"config"},
        "options": {"config"},
        "trust": set(),
        "discovery": set(),
        "config": set(),
        "events": set(),
    },
    "cli": {
        "client": {"commands", "settings", "output", "log", *BASICS},
        "server": {"commands", "settings", "log", *BASICS},
        "commands": {"settings", *BASICS},
        "output": {"amounts", "clean"},
        "settings": {"usage"},
        "usage": {"migrants"},
        "program": {"clean", "exit_codes", "writer"},
        "log": set(),
        "migrants": set(),
        "writer": set(),
        "amounts": set(),
        "clean": set(),
        "exit_codes": set(),
    },
    "net": {"tls": {"flow", "*"}, "flow": {"*"}, "*": set()},
    "protocol": {"wire": {"*"}, "login": {"*"}, "*": set()},
    "errors": {"visitors": {"root"}, "peers": {"root"}, "refusals": {"root"}, "local": {"root"}, "root": set()},
}
"""What each room of a part may import of the same part besides itself; ``*`` is every module that has no room."""

LIMITS = "localtunnel.protocol.limits"
"""Constants without code: every part that is above ``errors`` may read them."""

SOCKETS = {"socket", "ssl", "gevent.socket", "gevent.ssl", "gevent._socket3", "gevent.server", "_socket"}
"""Only ``net`` touches the operating system's sockets."""

IMPURE = set("asyncio gevent greenlet os select selectors socket ssl subprocess threading time".split())
"""Nothing of this in ``protocol``, ``http`` and ``networks``: bytes in, values out."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "localtunnel"


def room_of(module: str, rooms: dict[str, set[str]]) -> str:
    _, _, name, *_ = [*module.split("."), ""]
    return name if name in rooms else "*"


def imports(path: Path) -> Iterator[str]:
    """Yield every module that ``path`` imports, wherever in the file, with the names of ``from`` imports behind it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively; name the module in full"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path, roots: set[str]) -> list[str]:
    return [name for name in imports(path) if any(name == root or name.startswith(f"{root}.") for root in roots)]


PURE = [path for path in MODULES if part_of(dotted(path)) in ("protocol", "http", "networks")]

every_module = pytest.mark.parametrize("path", MODULES, ids=dotted)


@every_module
def test_imports_go_downwards_only(path: Path) -> None:
    part = part_of(dotted(path))
    allowed = BELOW[part] | {part}
    for name in imports_of(path, {"localtunnel"}):
        if name == "localtunnel.__version__" or name.startswith(f"{LIMITS}.") or name == LIMITS:
            continue
        assert part_of(name) in allowed, f"{dotted(path)} imports {name}, which is not below {part}"


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(dotted(path)) in INSIDE], ids=dotted)
def test_rooms_import_downwards_only(path: Path) -> None:
    part = part_of(dotted(path))
    rooms = INSIDE[part]
    room = room_of(dotted(path), rooms)
    if path == PACKAGE / part / "__init__.py":
        # That of ``errors`` gives them all under one name.
        assert part == "errors" or not imports_of(path, {"localtunnel"})
        return
    for name in imports_of(path, {f"localtunnel.{part}"}):
        below = room_of(name, rooms)
        assert below in rooms[room] | {room}, f"{dotted(path)} imports {name}, which is not below {room}"


def test_every_room_has_its_rule() -> None:
    assert set(INSIDE) == {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    for part, rooms in INSIDE.items():
        folders = {path.name for path in (PACKAGE / part).iterdir() if (path / "__init__.py").exists()}
        files = {path.stem for path in (PACKAGE / part).glob("[a-z]*.py")}
        assert folders <= set(rooms)
        assert "*" in rooms or files <= set(rooms)
        assert set(rooms) <= folders | files | {"*"}


def test_no_imports_run_in_a_circle() -> None:
    """Not even those that are there for type hints only."""
    modules = {dotted(path): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = [name for name in imports_of(path, {"localtunnel"}) if name != "localtunnel.__version__"]
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_room_says_what_it_is_for() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), dotted(path)


@every_module
def test_a_file_is_no_longer_than_a_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_a_folder_has_twelve_files_at_most() -> None:
    for folder in {path.parent for path in MODULES}:
        names = sorted(path.name for path in folder.glob("*.py"))
        assert len(names) <= 12, f"{folder.relative_to(ROOT)} has {len(names)} files: {names}"


@every_module
def test_only_net_imports_sockets(path: Path) -> None:
    if part_of(dotted(path)) != "net":
        assert not imports_of(path, SOCKETS), f"{dotted(path)} reaches past net for a socket"


@every_module
def test_nobody_patches(path: Path) -> None:
    assert not imports_of(path, {"gevent.monkey"})
    assert "patch_all" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PURE, ids=dotted)
def test_what_reads_bytes_is_pure(path: Path) -> None:
    assert not imports_of(path, IMPURE)


def test_every_part_has_its_rule() -> None:
    assert {part_of(dotted(path)) for path in MODULES} == set(BELOW)


def test_the_package_never_imports_its_benchmarks_or_tests() -> None:
    for path in MODULES:
        assert not imports_of(path, {"bench", "tests", "pytest", "hypothesis"})


@pytest.mark.parametrize("module", ["localtunnel", "localtunnel.server.app", "localtunnel.client.app"])
def test_importing_patches_nothing(module: str) -> None:
    program = f"""
import os, select, signal, socket, ssl, subprocess, sys, threading, time
modules = [os, select, signal, socket, ssl, subprocess, threading, time]
before = [dict(vars(module)) for module in modules]
import {module}
if "gevent.monkey" in sys.modules:
    import gevent.monkey
    assert not gevent.monkey.saved, gevent.monkey.saved
for module, names in zip(modules, before):
    changed = [name for name, value in names.items() if vars(module)[name] is not value]
    assert not changed, (module, changed)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


def test_importing_the_package_loads_neither_side() -> None:
    program = """
import sys, localtunnel
sys.exit(any(name.startswith(("gevent", "localtunnel.")) for name in sys.modules))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(("module", "other"), [("server", "client"), ("client", "server")])
def test_one_side_never_loads_the_other(module: str, other: str) -> None:
    program = f"""
import sys, localtunnel.{module}.app
sys.exit(any(name.startswith("localtunnel.{other}") for name in sys.modules))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)
