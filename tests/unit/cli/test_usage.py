"""The command lines of both commands, their texts and their exit codes."""

import logging
import os
import re
import socket
import subprocess
import sys

import pytest
from harness.places import ROOT

from localtunnel import __version__, errors
from localtunnel.cli import client, exit_codes, migrants, program, server
from localtunnel.cli.settings.schema import CLIENT, SERVER

PROGRAMS = {"lt-server": server, "lt-client": client}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No setting of the person who runs the tests reaches them, and no log that a command set up outlives its test."""
    for variable in [*filter(lambda name: name.startswith("LT_"), os.environ), "NO_COLOR", "XDG_CONFIG_HOME"]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    logger = logging.getLogger("localtunnel")
    before = (logger.level, list(logger.handlers))
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def run_main(capfd, main, *argv):
    code = main(list(argv))
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--sever=x", "80"], "--sever is not an option; did you mean --server?"),
        (["--nmae", "x", "80"], "--nmae is not an option; did you mean --name?"),
        (["-x", "80"], "-x is not an option."),
        (["--zzz", "80"], "--zzz is not an option."),
        (["htp", "8080"], "'htp' is not a command; did you mean http?"),
        (["tpc", "22"], "'tpc' is not a command; did you mean tcp?"),
        (["xyz", "8080"], "'xyz' is not a command."),
        (["logn", "example.com"], "'logn' is not a command; did you mean login?"),
        (["--server=x", "login", "x"], "login has to be the first word: lt-client login SERVER."),
        (["--server=x", "login"], "login has to be the first word: lt-client login SERVER."),
        (["-s", "x", "logout", "x"], "logout has to be the first word: lt-client logout SERVER."),
        (["80", "90"], "'90' is one word too many: there is one target, '80'."),
        (["http", "80", "90"], "'90' is one word too many: there is one target, '80'."),
        (["tcp", "80", "90"], "'90' is one word too many: there is one target, '80'."),
        (["tcp", "22", "--remote-prot=1"], "--remote-prot is not an option; did you mean --remote-port?"),
        (["tcp", "22", "--remote-port"], "--remote-port needs a value: --remote-port=N."),
        (["--name"], "--name needs a value: --name=NAME."),
        (["80", "-n"], "--name needs a value: --name=NAME."),
        (["--quiet=3", "80"], "--quiet takes no value."),
        (["--json", "--json", "80"], "--json was given twice; give it once."),
        (["-n", "a", "--nam=b", "80"], "--name was given twice; give it once."),
        (["--cors", "--cors", "80"], "--cors was given twice; give it once."),
        (["--allow-ip=::1", "--allow-ip", "::2"], "No target: "),
        (["--allow-ip=::1", "80", "--allow-ip"], "--allow-ip needs a value: --allow-ip=NETWORK."),
        (["--n", "80"], "--n is the beginning of --name and --no-retry; write it out."),
        (["--", "80"], "'--' was not understood"),
        ([], "No target: "),
        (["http"], "No target: name the port or the address of the local server, as in lt-client 8080."),
        (["tcp"], "No target: name the port or the address of the local server, as in lt-client tcp 22."),
        (["tcp", "--remote-port", "20022"], "No target: "),
    ],
)
def test_a_client_line_that_is_not_understood(capfd, argv, sentence):
    code, out, err = run_main(capfd, client.main, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-client: {sentence}")
    assert "Usage:\n  lt-client [http | tcp] [options] [<target>]\n" in err
    assert err.endswith("lt-client --help explains the options.\n")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["--port", "8080"],
            "--port is not an option here; that of lt is the target, without an option, as in lt-client 8080;"
            " that of bore is --remote-port=N, with tcp.",
        ),
        (["-p8080", "-s", "foo"], "-s is --server here; that of lt is --name.\n"),
        (["--auth=user:password", "80"], "--auth is not an option here; that of ngrok is --protect=USER:PASSWORD"),
        (["--host", "https://example.com"], "--host is not an option here; that of lt is --server=HOST."),
        (["http", "--url=https://a.test", "80"], "--url is not an option here; that of ngrok is --domain for a host"),
        (["80", "--server_addr", "x"], "--server_addr is not an option here; that of frp is --server=HOST."),
        (["--log=stdout", "80"], "--log is not an option here; that of ngrok is 2>FILE"),
        (["-R", "80:localhost:3000"], "-R is not an option here; that of ssh is the target alone"),
        (["--name=--port", "--to", "x", "80"], "--to is not an option here; that of bore is --server=HOST."),
        (["local", "22"], "'local' is not a command here; that of bore is tcp, as in lt-client tcp 22."),
        (["config", "add-authtoken", "x"], "'config' is not a command here; that of ngrok, with add-authtoken, is"),
        (["help"], "'help' is not a command here; it is lt-client --help."),
        (["start"], "'start' is not a command here; that of ngrok is lt-client alone, with the target in"),
        (["--region=eu", "80"], "; that of ngrok is without a counterpart: --server names the one server."),
        (["--verbose", "80"], "--verbose is not an option here; that of zrok is --log-level=debug."),
        (["tunnel", "--loglevel=info"], "--loglevel is not an option here; that of cloudflared is --log-level."),
    ],
)
def test_the_options_of_other_tunnels_are_told_what_they_are_here(capfd, argv, sentence):
    code, out, err = run_main(capfd, client.main, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert sentence in err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--port=80"], "--port is not an option here; that of lt is --frontend=PORT."),
        (["--bind_port", "7000"], "--bind_port is not an option here; that of frp is --backend=PORT."),
        (["serve"], "'serve' is not a command here; lt-server alone starts the server."),
        (["http", "8080"], "'http' is not a command here; it is one of lt-client, which opens tunnels."),
        (["--min-port=1"], "--min-port is not an option here; that of bore is the first of --tcp-ports=FIRST-LAST."),
    ],
)
def test_so_are_those_of_other_servers(capfd, argv, sentence):
    code, out, err = run_main(capfd, server.main, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-server: {sentence}\n")


@pytest.mark.parametrize(("name", "tools"), [("lt-client", migrants.CLIENT), ("lt-server", migrants.SERVER)])
def test_no_option_of_ours_is_refused_and_every_one_that_is_advised_is_there(name, tools):
    ours = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", PROGRAMS[name].USAGE))
    for tool, options in tools.items():
        assert not set(options) & ours, tool
        for sentence in options.values():
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", sentence):
                assert option in ours or f"lt-client {option}" in sentence, sentence


def test_a_secret_on_the_line_is_not_repeated(capfd):
    for option in ("--token", "--authtoken", "--secret", "--auth", "-t"):
        code, _, err = run_main(capfd, client.main, f"{option}{'=' if option[:2] == '--' else ''}hunter2", "80")
        assert code == exit_codes.USAGE
        assert "hunter2" not in err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--pool=3", "--bakend=1"], "--bakend is not an option; did you mean --backend?"),
        (["--bogus"], "--bogus is not an option."),
        (["example.com"], "'example.com' was not understood: only options may be given."),
        (["tokn"], "'tokn' is not a command; did you mean token?"),
        (["tunnel", "list"], "'tunnel' is not a command; did you mean tunnels?"),
        (["--config=x", "token", "list"], "token has to be the first word: lt-server token COMMAND."),
        (["--config=x", "tunnels", "list"], "tunnels has to be the first word: lt-server tunnels COMMAND."),
        (["--config=x", "fingerprint"], "fingerprint has to be the first word: lt-server fingerprint."),
        (["--log"], "--log is the beginning of --log-format and --log-level; write it out."),
        (["--grace", "--"], "--grace needs a value: --grace=S."),
    ],
)
def test_a_server_line_that_is_not_understood(capfd, argv, sentence):
    code, out, err = run_main(capfd, server.main, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-server: {sentence}\n\nUsage:\n  lt-server [options]\n")


@pytest.mark.parametrize(
    ("name", "argv", "sentence"),
    [
        ("lt-server", ["--pool-size=abc"], "--pool-size: expected whole number, got string 'abc'."),
        ("lt-server", ["--frontend=a"], "--frontend: 'a' is not an address to listen on: it has no port."),
        ("lt-server", ["--tcp-ports=20000"], "--tcp-ports: '20000' is not a range of ports; write it as FIRST-LAST"),
        ("lt-client", ["--remote-port=20022", "8080"], "--remote-port: only a TCP tunnel has a public port of its own"),
        ("lt-client", ["http", "--remote-port=20022", "80"], "--remote-port: only a TCP tunnel has a public port"),
        ("lt-client", ["tcp", "--remote-port=ssh", "22"], "--remote-port: expected whole number, got string 'ssh'."),
        (
            "lt-client",
            ["tcp", "http://localhost:22"],
            "<target>: 'http://localhost:22' is not a target of a TCP",
        ),
        ("lt-client", ["app"], "<target>: 'app' is not a target: it has no port."),
        ("lt-client", ["--json", "--quiet", "80"], "--json and --quiet exclude each other; give one of them."),
    ],
)
def test_a_value_that_is_wrong(capfd, name, argv, sentence):
    code, out, err = run_main(capfd, PROGRAMS[name].main, *argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"{name}: {sentence}")


def test_a_wrong_variable_ends_with_the_code_for_settings(capfd, monkeypatch):
    monkeypatch.setenv("LT_LOG_LEVEL", "loud")
    code, _, err = run_main(capfd, server.main)
    assert code == exit_codes.CONFIG
    assert err.startswith("lt-server: LT_LOG_LEVEL: ")


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["8080", "--help"], ["--no-such-option", "--help"]])
@pytest.mark.parametrize("name", PROGRAMS)
def test_help_wins_over_everything(capfd, name, argv):
    code, out, err = run_main(capfd, PROGRAMS[name].main, *argv)
    assert (code, out, err) == (exit_codes.CLEAN, PROGRAMS[name].USAGE, "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_fits_a_terminal_of_its_own_width(name):
    assert max(map(len, PROGRAMS[name].USAGE.splitlines())) <= 120


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_no_default_that_would_hide_whether_a_flag_was_given(name):
    assert "[default" not in PROGRAMS[name].USAGE


@pytest.mark.parametrize(("name", "schema"), [("lt-server", SERVER), ("lt-client", CLIENT)])
def test_every_flag_and_variable_that_is_read_is_explained(name, schema):
    text = PROGRAMS[name].USAGE
    for setting in schema.settings:
        for word in (*setting.flags, setting.variable or "--help"):
            assert word in text


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_loads_nothing_heavy(name):
    """The time that it takes is not measured here; what would cost that time is."""
    code = (
        f"import sys; from localtunnel.cli.{name.removeprefix('lt-')} import main; main(['--help']); "
        "print(*sorted({'gevent', 'msgspec', 'httptools', 'logging', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "\n"
    assert done.stdout.startswith(f"{name}: ")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_commented_settings_file_is_printed_whatever_the_settings_are(capfd, monkeypatch, tmp_path, name):
    monkeypatch.setenv("LT_CONFIG", str(tmp_path / "missing"))
    text = (ROOT / "conf" / f"{name.removeprefix('lt-')}.toml").read_text()
    assert run_main(capfd, PROGRAMS[name].main, "--print-config") == (exit_codes.CLEAN, text, "")


@pytest.mark.parametrize(
    ("argv", "code", "out"),
    [
        (["server", "--version"], 0, f"lt-server {__version__}\n"),
        (["client", "--version"], 0, f"lt-client {__version__}\n"),
        (["--help"], 0, "localtunnel: gives local servers"),
        ([], 2, ""),
        (["sever"], 2, ""),
        (["client", "--no-such-option", "80"], 2, ""),
    ],
)
def test_both_commands_are_there_as_a_module(argv, code, out):
    done = subprocess.run([sys.executable, "-m", "localtunnel", *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout.startswith(out)
    assert (code == 0) is (done.stderr == "")


def test_the_server_shows_its_version(capfd):
    assert run_main(capfd, server.main, "--version") == (exit_codes.CLEAN, f"lt-server {__version__}\n", "")


def test_the_client_shows_its_version_and_connects_to_nothing(capfd, monkeypatch, tmp_path):
    """Neither what the settings name, however broken they are, nor what is there by default."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setenv("LT_SERVER", f"127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("LT_CONFIG", str(tmp_path / "missing"))
        assert run_main(capfd, client.main, "--version") == (exit_codes.CLEAN, f"lt-client {__version__}\n", "")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_the_client_asks_a_server_that_is_named_for_its_version(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, out, err = run_main(capfd, client.main, "--version", f"--server=127.0.0.1:{port}")
    assert (code, err) == (exit_codes.CLEAN, "")
    assert out == f"lt-client {__version__}\nserver 127.0.0.1:{port} cannot be reached\n"


ENDS = [
    (errors.UsageError, 2),
    (errors.ConfigError, 3),
    (errors.AddressError, 3),
    (errors.TokenInvalid, 4),
    (errors.NameUnavailable, 5),
    (errors.NameInvalid, 5),
    (errors.PortRefused, 5),
    (errors.OptionRefused, 5),
    (errors.ClientReplaced, 5),
    (errors.ClientKicked, 5),
    (errors.NotAllowed, 5),
    (errors.LimitReached, 5),
    (errors.RequestInvalid, 7),
    (errors.AuthError, 4),
    (errors.AuthRequired, 4),
    (errors.AuthFailed, 4),
    (errors.TokenExpired, 4),
    (errors.AuthThrottled, 4),
    (errors.TlsRequired, 4),
    (errors.TrustError, 4),
    (errors.KeyChanged, 4),
    (errors.CertificateUntrusted, 4),
    (errors.CertificateUnknown, 4),
    (errors.DowngradeRefused, 4),
    (errors.StorageError, 3),
    (errors.OutputError, 1),
    (errors.RefusedError, 6),
    (errors.TunnelExpired, 6),
    (errors.RemoteFailure, 6),
    (errors.Flooded, 6),
    (errors.NetworkError, 6),
    (errors.Unreachable, 6),
    (errors.ConnectionRefused, 6),
    (errors.ConnectionClosed, 6),
    (errors.TlsError, 6),
    (errors.DeadlineExceeded, 6),
    (errors.ProtocolError, 7),
    (errors.HeaderError, 7),
    (errors.VersionError, 7),
    (errors.FrameError, 7),
    (errors.MessageError, 7),
    (errors.ListenError, 8),
    (KeyboardInterrupt, 130),
    (ValueError, 1),
]


@pytest.mark.parametrize(("error", "code"), ENDS)
def test_each_error_ends_with_its_code(capfd, error, code):
    def command(argv):
        raise error("It went wrong.")

    assert program.run("lt-client", command, []) == code
    err = capfd.readouterr().err
    if error is KeyboardInterrupt:
        assert err == ""
    elif error is ValueError:
        assert err == f"lt-client: internal error: ValueError: It went wrong. {program.REPORT}\n"
    else:
        assert err == "lt-client: It went wrong.\n"


def tree(error):
    """``error`` and every class below it."""
    yield error
    for kind in error.__subclasses__():
        yield from tree(kind)


def test_every_error_has_its_code_above():
    """A class that is new in the tree has to be thought of: no program may end with 1 for what is no fault of ours."""
    without = {errors.LocaltunnelError, *tree(errors.VisitorError)}
    assert {error for error, _ in ENDS if issubclass(error, errors.LocaltunnelError)} == {
        error for error in tree(errors.LocaltunnelError) if error not in without
    }


@pytest.mark.parametrize("error", list(tree(errors.VisitorError)))
def test_what_a_visitor_is_answered_never_ends_a_program(error):
    assert exit_codes.exit_code(error("It went wrong.")) == exit_codes.INTERNAL_ERROR


def test_the_table_of_codes_is_the_documented_one():
    documented = {
        int(line.split()[0]): line.split()[1] for line in exit_codes.__doc__.splitlines() if line[:1].isdigit()
    }
    assert documented == {
        value: name for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)
    }
    assert {code for _, code in ENDS} | {exit_codes.CLEAN, exit_codes.AUTHENTICATION} == set(documented)


def test_a_message_from_the_other_machine_loses_its_escapes_and_line_breaks(capfd):
    def command(argv):
        raise errors.RemoteFailure("first\x1b[2J\x1b]0;owned\x07 line\nsecond")

    program.run("lt-client", command, [])
    assert capfd.readouterr().err == "lt-client: first line second\n"


def test_a_traceback_is_for_those_who_debug(capfd):
    def command(argv):
        raise ValueError("a reason")

    logging.getLogger("localtunnel").setLevel(logging.INFO)
    program.run("lt-client", command, [])
    assert "Traceback" not in capfd.readouterr().err
    logging.getLogger("localtunnel").setLevel(logging.DEBUG)
    program.run("lt-client", command, [])
    assert "Traceback" in capfd.readouterr().err
