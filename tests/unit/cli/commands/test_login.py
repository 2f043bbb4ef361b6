"""``lt-client login`` and ``logout``, the file that they keep, and which token a client uses."""

import base64
import hashlib
import json
import os
import pty
import stat
import subprocess
import sys
from contextlib import suppress

import pytest
from harness import ROOT

from localtunnel.cli import client, exit_codes
from localtunnel.cli.commands import login
from localtunnel.cli.settings import config
from localtunnel.client.trust.credentials import FILE, Credentials
from localtunnel.errors import ConfigError
from localtunnel.files import data_directory
from localtunnel.protocol.login.token import Token

FINGERPRINT = "SHA256:" + base64.b64encode(hashlib.sha256(b"key").digest()).decode().rstrip("=")
STORED, OTHER, THIRD, FOURTH = (Token(letter * 8, letter * 26, FINGERPRINT) for letter in "abcd")


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    for variable in filter(lambda name: name.startswith("LT_"), list(os.environ)):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return data_directory("", os.environ)


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(OTHER.text() + "\n")
    return path


def run(capfd, *argv):
    code = client.main(list(argv))
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def program(*argv, **options):
    command = [sys.executable, str(ROOT / "bin" / "lt-client"), *argv]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 30, **options})


def test_a_token_is_read_from_stdin(directory):
    done = program("login", "example.com", input=STORED.text() + "\n")
    assert (done.returncode, done.stdout) == (exit_codes.CLEAN, "")
    assert done.stderr == (
        f"The token for example.com is stored in {directory / FILE}. From now on lt-client uses example.com where no "
        "--server names another one.\n"
    )
    assert Credentials(directory).find("example.com") == STORED


def test_a_token_is_asked_for_and_not_shown(directory):
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "bin" / "lt-client"), "login", "example.com"]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": subprocess.PIPE}
    try:
        with subprocess.Popen(command, start_new_session=True, **streams) as process:
            prompt = process.stderr.read(len("Token"))
            assert prompt == b"Token"
            # What is typed before the prompt is thrown away, so that nothing else is taken for a password.
            os.write(ours, STORED.text().encode() + b"\n")
            said = process.stderr.read()
            assert process.wait(timeout=30) == exit_codes.CLEAN, said
        os.set_blocking(ours, False)
        shown = said
        with suppress(BlockingIOError):
            shown += os.read(ours, 4096)
    finally:
        os.close(theirs)
        os.close(ours)
    assert STORED.secret.encode() not in shown
    assert Credentials(directory).find("example.com") == STORED


def test_a_token_is_read_from_a_file(capfd, directory, token_file):
    assert run(capfd, "login", "example.com", f"--token-file={token_file}")[0] == exit_codes.CLEAN
    assert Credentials(directory).find("example.com") == OTHER


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_token_may_begin_with_a_byte_order_mark(directory, token_file, encoding):
    """A shell of Windows writes one where its output goes to a file."""
    token_file.write_text(OTHER.text() + "\r\n", encoding=encoding)
    assert program("login", "example.com", input=token_file.read_bytes(), text=False).returncode == exit_codes.CLEAN
    assert Credentials(directory).find("example.com") == OTHER
    assert chosen({"--token-file": str(token_file)}, {}) == OTHER
    assert chosen({}, {"LT_TOKEN": "\ufeff" + STORED.text()}) == STORED


def test_logout_forgets_one_server(capfd, directory):
    stored = Credentials(directory)
    stored.store("example.com", STORED)
    stored.store("example.org", OTHER)
    code, out, err = run(capfd, "logout", "example.com")
    assert (code, out) == (exit_codes.CLEAN, "")
    assert "forgotten" in err
    assert stored.find("example.com") is None
    assert stored.find("example.org") == OTHER
    assert "No token is stored" in run(capfd, "logout", "example.com")[2]


@pytest.mark.parametrize("text", ["", "hello", STORED.text()[:-1], STORED.text()[:-1] + "a"])
def test_what_is_no_token_is_not_stored(directory, text):
    done = program("login", "example.com", input=text)
    assert done.returncode == exit_codes.AUTHENTICATION
    assert "token" in done.stderr
    assert not (directory / FILE).exists()


@pytest.mark.parametrize("server", ["", "exa mple", "http://", "example.com/path"])
def test_what_is_no_server_is_refused(capfd, directory, token_file, server):
    assert run(capfd, "login", server, f"--token-file={token_file}")[0] == exit_codes.CONFIG
    assert not (directory / FILE).exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["login"], "login needs <server>."),
        (["logout"], "logout needs <server>."),
        (["login", "a", "b"], "'b' was not understood: only options may follow login <server>."),
    ],
)
def test_a_line_that_is_not_understood(capfd, argv, sentence):
    code, out, err = run(capfd, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-client: {sentence}\n\nUsage:\n  lt-client login <server> [options]\n")


def test_a_token_is_never_an_argument(capfd):
    for argv, ended in (
        (f"--token={STORED.text()}", exit_codes.USAGE),
        (f"--token-f={STORED.text()}", exit_codes.CONFIG),
    ):
        code, _, err = run(capfd, argv, "80")
        assert code == ended
        assert "ther users can see" in err
        assert STORED.secret not in err


# The file.


def test_modes(directory):
    Credentials(directory).store("example.com", STORED)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600


def test_a_file_that_others_may_read_is_not_used(capfd, directory):
    Credentials(directory).store("localhost:8000", STORED)
    (directory / FILE).chmod(0o640)
    code, _, err = run(capfd, "--no-retry", "80")
    assert code == exit_codes.CONFIG
    assert "chmod 600" in err


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_file_is_said_to_be_one(directory, content):
    stored = Credentials(directory)
    stored.store("example.com", STORED)
    stored.path.write_bytes(content)
    for use in (lambda: stored.find("example.com"), lambda: stored.store("a", OTHER), lambda: stored.forget("a")):
        with pytest.raises(ConfigError, match="damaged"):
            use()


@pytest.mark.parametrize("other", ["example.com:80", "http://example.com", "EXAMPLE.com"])
def test_a_server_is_the_same_however_it_is_written(directory, other):
    stored = Credentials(directory)
    stored.store("example.com", STORED)
    assert stored.find(other) == STORED
    assert stored.find("example.com:8000") is None


def test_the_file_has_one_line_for_each_server(directory):
    stored = Credentials(directory)
    stored.store("example.com", STORED)
    stored.store("example.com", OTHER)
    assert json.loads(stored.path.read_text()) == {"example.com:80": OTHER.text()}


# Which server is used.


def server_of(arguments=None, environ=None):
    return config.client_config(arguments or {}, {**os.environ, **(environ or {})}).server


def test_the_last_login_says_which_server_is_used(capfd, directory, token_file, tmp_path):
    assert server_of() == "localhost:8000"
    for server in ("example.com", "https://example.org", "example.net:8000"):
        run(capfd, "login", server, f"--token-file={token_file}")
    assert server_of() == "example.net:8000"
    run(capfd, "login", "example.com", f"--token-file={token_file}")
    assert server_of() == "example.com:80"
    # Whatever names a server is stronger.
    settings = tmp_path / "client.toml"
    settings.write_text('server = "file.test"\n')
    assert server_of({"--config": str(settings)}) == "file.test"
    assert server_of({"--config": str(settings)}, {"LT_SERVER": "variable.test"}) == "variable.test"
    assert server_of({"--server": "flag.test"}, {"LT_SERVER": "variable.test"}) == "flag.test"
    # What may not be used without encryption is not used without.
    assert server_of({"--insecure": True}) == "localhost:8000"
    run(capfd, "logout", "example.com")
    run(capfd, "logout", "example.net:8000")
    assert server_of() == "https://example.org:443"
    run(capfd, "logout", "https://example.org")
    assert server_of() == "localhost:8000"


# Which token is used.


def chosen(arguments, environ):
    arguments = {"--server": "example.com", **arguments}
    return login.find_token(config.client_config(arguments, environ), arguments, environ)


def test_the_nearest_origin_wins(directory, tmp_path, token_file):
    other_file = tmp_path / "other"
    other_file.write_text(FOURTH.text())
    assert chosen({}, {}) is None
    Credentials(directory).store("example.com", STORED)
    assert chosen({}, {}) == STORED
    assert chosen({}, {"LT_TOKEN_FILE": str(token_file)}) == OTHER
    assert chosen({}, {"LT_TOKEN_FILE": str(token_file), "LT_TOKEN": THIRD.text()}) == THIRD
    environ = {"LT_TOKEN_FILE": str(token_file), "LT_TOKEN": THIRD.text()}
    assert chosen({"--token-file": str(other_file)}, environ) == FOURTH


def test_a_token_for_another_server_is_not_used(directory):
    Credentials(directory).store("example.org", STORED)
    assert chosen({}, {}) is None


def test_a_mistyped_token_ends_alike_wherever_it_comes_from(capfd, monkeypatch, token_file):
    token_file.write_text(OTHER.text()[:-1])
    for argv in (("login", "example.com", f"--token-file={token_file}"), (f"--token-file={token_file}", "80")):
        code, _, err = run(capfd, *argv)
        assert (code, err[:11]) == (exit_codes.AUTHENTICATION, "lt-client: ")
        assert "not a whole token" in err
    monkeypatch.setenv("LT_TOKEN", OTHER.text()[:-1] + "a")
    code, _, err = run(capfd, "80")
    assert code == exit_codes.AUTHENTICATION
    assert err.startswith("lt-client: LT_TOKEN: This token has a wrong letter")


@pytest.mark.parametrize(
    ("environ", "origin"),
    [({"LT_TOKEN": "lt_x"}, "LT_TOKEN: "), ({"LT_TOKEN_FILE": "/nowhere"}, "The token file /nowhere cannot be read")],
)
def test_a_wrong_token_is_an_error_that_names_its_origin(environ, origin):
    with pytest.raises(ConfigError, match=origin):
        chosen({}, environ)


def test_a_token_and_no_encryption_do_not_go_together(directory, capfd):
    Credentials(directory).store("example.com", STORED)
    code, _, err = run(capfd, "--server=example.com", "--insecure", "80")
    assert code == exit_codes.CONFIG
    assert "never used without encryption" in err
