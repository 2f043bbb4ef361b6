"""The tables and commands of README.md and docs/ against the code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from harness import ROOT

from localtunnel import errors
from localtunnel.cli import client, exit_codes, server, usage
from localtunnel.cli.commands import check, fingerprint, login, tokens, tunnels
from localtunnel.cli.settings.config import FILE_VARIABLE
from localtunnel.cli.settings.schema import CLIENT, SERVER
from localtunnel.client.config import ClientConfig
from localtunnel.http.pages import warning
from localtunnel.server.config import ServerConfig

LAPTOP = (ROOT / "docs" / "laptop.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])

USAGES = {
    "lt-client": client.USAGE + login.USAGE,
    "lt-server": server.USAGE + tokens.USAGE + tunnels.USAGE + fingerprint.USAGE + check.USAGE,
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\b")
OTHERS = {"--basic-auth", "--port", "--preferred-challenges", "--user"}
"""Options of other programs that the documents name outside of their command lines."""


def cells(text: str, *columns: str) -> list[tuple[str, ...]]:
    """Return the rows of the table in ``text`` that has just these columns."""
    head = "| " + " | ".join(columns) + " |\n"
    assert text.count(head) == 1, head
    table = text[text.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in table]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def leaves(kind: type[errors.VisitorError]) -> Iterator[type[errors.VisitorError]]:
    """Yield the errors that a visitor is answered with, without those that only hold others together."""
    if not kind.__subclasses__():
        yield kind
    for each in kind.__subclasses__():
        yield from leaves(each)


def test_every_error_code_is_in_the_reference_with_its_status() -> None:
    documented = {
        code: int(status) for cell, status, _ in cells(REFERENCE, "code", "status", "meaning") for code in codes(cell)
    }
    assert documented == {kind.code: kind.status for kind in leaves(errors.VisitorError)} | {warning.CODE: 403}


def test_every_exit_code_is_in_the_reference() -> None:
    documented = [int(code) for code, _ in cells(REFERENCE, "code", "meaning")]
    assert documented == sorted(
        value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)
    )


def test_every_option_of_a_tunnel_is_on_the_laptop_s_page() -> None:
    rows = cells(LAPTOP, "option", "what it does")
    documented = {option for cell, _ in rows for option in OPTION.findall(cell)}
    assert documented == {
        flag
        for setting in CLIENT.settings
        for flag in setting.flags
        if setting.key in {"protect", "allow_ip", "cors", "server_timing", "domain"} or "header" in setting.key
    }


def test_every_variable_is_in_the_reference_and_in_the_help() -> None:
    rows = [
        (*codes(name), readers, same) for name, readers, same in cells(REFERENCE, "variable", "read by", "the same as")
    ]
    for program, schema, others in (
        ("server", SERVER, set()),
        ("client", CLIENT, {login.VARIABLE, "SSL_CERT_FILE"}),
    ):
        documented = {name for name, readers, _ in rows if program in readers}
        read = {setting.variable: setting.flags[0] for setting in schema.settings if setting.variable}
        assert documented == read.keys() | {FILE_VARIABLE, "NO_COLOR"} | others
        assert all(variable in USAGES[f"lt-{program}"] for variable in documented - {"SSL_CERT_FILE"})
        assert all(codes(same) == [read[name]] for name, _, same in rows if name in read)


def spans(text: str) -> Iterator[str]:
    """Yield what stands in backticks, and the lines of code blocks without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from (line.partition("#")[0] for line in block.splitlines())
    yield from codes(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_a_document_names_is_there(path: Path) -> None:
    every = set(OPTION.findall("".join(USAGES.values())))
    for span in spans(path.read_text(encoding="utf-8")):
        program = next((name for name in USAGES if re.match(rf"(?:\S*/)?{name}\b", span)), None)
        if program is None and not span.startswith("--"):
            # The command line of another program.
            continue
        known = set(OPTION.findall(USAGES[program])) if program else every
        assert set(OPTION.findall(span)) <= known | OTHERS, span


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the command lines of our programs in blocks, and those that fill a cell."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"\| `([^`|]+)` (?=\|)", text)
    for line in [*"".join(blocks).splitlines(), *rows]:
        found = re.match(r"(?:\.venv/bin/)?(lt-(?:client|server)) ([^>&]+)", line)
        if found and (words := shlex.split(found[2], comments=True)):
            yield [found[1], *words]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_is_understood(path: Path) -> None:
    texts = {
        "token": (tokens.USAGE, ("token",), tokens.VERBS),
        "tunnels": (tunnels.USAGE, (), tunnels.VERBS),
        "fingerprint": (fingerprint.USAGE, fingerprint.COMMANDS),
        "check": (check.USAGE, check.COMMANDS),
        "login": (login.USAGE, login.COMMANDS),
        "logout": (login.USAGE, login.COMMANDS),
    }
    for program, *words in command_lines(path.read_text(encoding="utf-8")):
        whole = client.USAGE if program == "lt-client" else server.USAGE
        text, *commands = texts.get(words[0], (whole,))
        usage.parse(text, words, *commands)


def test_the_command_lines_are_found() -> None:
    found = [words for path in DOCUMENTS for words in command_lines(path.read_text(encoding="utf-8"))]
    assert len(found) > 30
    assert ["lt-server", "token", "create", "--label=ann"] in found


def keys(struct: type[msgspec.Struct]) -> Iterator[str]:
    """Yield every key of a settings struct, those of its tables by themselves."""
    for field in msgspec.structs.fields(struct):
        yield field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_document_names_is_there(path: Path) -> None:
    """Written as ``key = value``, in backticks or in a block of TOML."""
    known = {*keys(ServerConfig), *keys(ClientConfig)}
    text = path.read_text(encoding="utf-8")
    written = [span for span in spans(text) if re.fullmatch(r"[a-z_]+ = [^=].*", span)]
    for span in written:
        assert span.partition(" = ")[0] in known, span


def test_the_settings_that_security_names_are_there() -> None:
    named = set(re.findall(r"`(trusted_proxies|[a-z]+_(?:page|hosts|names|ports|protocol|url|certificate))`", SECURITY))
    assert {"warning_page", "tcp_ports", "trusted_proxies"} <= named
    assert named <= set(keys(ServerConfig))


def test_what_is_not_defended_says_where_it_is() -> None:
    """Three of them were once left behind by what the server had learnt since."""
    section = SECURITY.partition("## Not defended yet\n")[2].partition("\n## ")[0]
    missing = {
        name: " ".join(text.split()) for name, text in re.findall(r"^- \*\*([^*]+)\.\*\*(.*(?:\n  .+)*)", section, re.M)
    }
    assert len(missing) >= 13
    assert all(" Until then: " in text for text in missing.values())
    assert "--allow-ip" in missing["A password for visitors of TCP tunnels"]
