"""``lt-server token …``: its words, its output and what it writes."""

import json
import re
import time

import pytest

from localtunnel.cli import exit_codes, server
from localtunnel.cli.amounts import parse_moment, parse_rate, show_moment
from localtunnel.errors import ConfigError
from localtunnel.files import data_directory
from localtunnel.protocol.login.token import parse
from localtunnel.server.access import tokens

USAGE = "Usage:\n  lt-server token create "


@pytest.fixture
def directory(monkeypatch, tmp_path):
    monkeypatch.delenv("LT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return data_directory("", {"XDG_DATA_HOME": str(tmp_path)})


@pytest.fixture
def run(capfd, directory):
    def run(*argv):
        code = server.main(["token", *argv])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def records(directory):
    return tokens.read(directory)


def test_create_prints_the_token_alone_on_stdout(run, directory):
    code, out, err = run("create")
    assert code == exit_codes.CLEAN
    token = parse(out)
    assert out == token.text() + "\n"
    assert token.secret not in err
    assert "shown only once" in err
    assert err.endswith(
        "This is the first token: from now on the server requires one, and tunnels that were opened without a token are"
        " closed.\n"
    )
    assert server.main(["fingerprint"]) == 0
    assert [record.id for record in records(directory)] == [token.id]


def test_only_the_first_token_changes_what_the_server_does(run):
    _, out, _ = run("create")
    assert "first token" not in run("create")[2]
    # Without a token left, the server stays closed.
    run("revoke", parse(out).id)
    assert "first token" not in run("create")[2]


def test_a_token_that_nobody_saw_is_not_made(run, directory, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        code = run("create")[0], run("create")[2]
        monkeypatch.undo()
    assert code == (1, "lt-server: The output cannot be written: No space left on device.\n")
    assert records(directory) == ()
    assert not (directory / tokens.FILE).exists()


def test_a_token_carries_the_fingerprint_of_its_server(run, capfd):
    _, out, _ = run("create")
    server.main(["fingerprint"])
    assert parse(out).fingerprint == capfd.readouterr().out.strip()


def test_everything_that_a_token_can_be_told(run, directory):
    now = time.time()
    run(
        *("create", "--label=Ann's laptop", "--name=ann-*", "--name=Shop", "--kind=http", "--reserve=ann"),
        *("--max-tunnels=3", "--max-connections=100", "--bandwidth=10M", "--expires=30d"),
    )
    (record,) = records(directory)
    assert (record.label, record.names, record.kinds) == ("Ann's laptop", ("ann-*", "shop"), ("http",))
    assert (record.reserved, record.max_tunnels, record.max_connections) == (("ann",), 3, 100)
    assert record.bandwidth == 10_000_000
    assert record.expires == pytest.approx(now + 30 * 86400, abs=60)


def test_without_options_a_token_has_no_limits(run, directory):
    run("create")
    (record,) = records(directory)
    assert (record.names, record.kinds, record.reserved) == (("*",), ("http", "tcp"), ())
    assert {record.max_tunnels, record.max_connections, record.bandwidth, record.expires} == {None}


def test_update_changes_what_it_names_and_nothing_else(run, directory):
    _, out, _ = run("create", "--label=one", "--max-tunnels=3", "--expires=1d", "--name=demo")
    code, out, err = run("update", parse(out).id, "--max-tunnels=0", "--expires=never", "--kind=tcp")
    assert (code, out) == (exit_codes.CLEAN, "")
    assert "within seconds" in err
    (record,) = records(directory)
    assert (record.label, record.names, record.kinds) == ("one", ("demo",), ("tcp",))
    assert (record.max_tunnels, record.expires) == (None, None)


def test_update_can_drop_every_name_that_was_reserved(run, directory):
    _, out, _ = run("create", "--reserve=ann", "--reserve=demo")
    code, _, err = run("update", parse(out).id, "--reserve=")
    assert code == exit_codes.CLEAN, err
    assert records(directory)[0].reserved == ()
    run("update", parse(out).id, "--reserve=demo")
    assert records(directory)[0].reserved == ("demo",)
    # An empty variable in a script drops nothing: neither beside a name nor for a new token.
    assert run("update", parse(out).id, "--reserve=", "--reserve=ann")[0] == exit_codes.USAGE
    assert run("create", "--reserve=")[0] == exit_codes.USAGE
    assert run("update", parse(out).id, "--name=")[0] == exit_codes.USAGE
    assert [record.reserved for record in records(directory)] == [("demo",)]


def test_one_of_a_kind_is_not_in_the_plural(run):
    run("create", "--max-tunnels=1", "--max-connections=1")
    run("create", "--max-tunnels=2", "--max-connections=2", "--bandwidth=1")
    _, out, _ = run("list")
    assert "1 tunnel, 1 connection " in out
    assert "2 tunnels, 2 connections, 1 bytes/s" in out


def test_revoke(run, directory):
    _, out, _ = run("create")
    code, nothing, err = run("revoke", parse(out).id)
    assert (code, nothing) == (exit_codes.CLEAN, "")
    assert "revoked" in err
    assert records(directory) == ()


def test_list(run, directory):
    _, out, _ = run(
        "create", "--label=ann", "--max-tunnels=2", "--bandwidth=500k", "--expires=2030-01-31", "--reserve=demo"
    )
    token = parse(out)
    code, out, err = run("list")
    assert (code, err) == (exit_codes.CLEAN, "")
    head, row = out.splitlines()
    assert head.split() == ["ID", "LABEL", "NAMES", "KINDS", "RESERVED", "LIMITS", "EXPIRES"]
    for part in (token.id, "ann", "*", "http tcp", "demo", "2 tunnels, 500000 bytes/s", "2030-01-31 00:00 UTC"):
        assert part in row


def test_times_in_json_are_those_of_rfc_3339(run):
    run("create", "--expires=2030-01-31T12:30:00")
    run("create")
    dated, endless = json.loads(run("list", "--json")[1])
    assert dated["expires"] == "2030-01-31T12:30:00.000Z"
    assert endless["expires"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", dated["created"])


def test_json_has_nothing_to_log_in_with(run):
    _, out, _ = run("create", "--json")
    made = json.loads(out)
    token = parse(made["token"])
    _, out, _ = run("list", "--json")
    (listed,) = json.loads(out)
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert listed["id"] == token.id
    assert not {"credentials", "salt", "stored_key"} & listed.keys()
    assert token.secret not in out


def test_the_settings_file_says_where_the_data_is(run, tmp_path, directory):
    config = tmp_path / "server.toml"
    config.write_text(f'data_dir = "{tmp_path / "elsewhere"}"\n')
    run("create", f"--config={config}")
    assert len(records(tmp_path / "elsewhere")) == 1
    assert records(directory) == ()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "Say what to do: create, update, revoke, list."),
        (["lst"], "'lst' is not a command; did you mean list?"),
        (["create", "--labl=x"], "--labl is not an option; did you mean --label?"),
        (["create", "--label=a", "--label=b"], "--label was given twice; give it once."),
        (["create", "--name"], "--name needs a value: --name=GLOB."),
        (["revoke"], "revoke needs <id>."),
        (["create", "ann"], "'ann' was not understood: only options may follow create."),
        (["revoke", "abc", "def"], "'def' was not understood: only options may follow revoke <id>."),
        (["update", "abc"], "Nothing to change: give at least one option, such as --label or --name."),
    ],
)
def test_a_line_that_is_not_understood(run, argv, sentence):
    code, out, err = run(*argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-server: {sentence}\n\n{USAGE}")
    assert err.endswith("lt-server token --help explains the options.\n")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["create", "--kind=udp"], "--kind: 'udp' is not a kind of tunnel; write http or tcp."),
        (["create", "--name=a/b"], "--name: 'a/b' is not a name, nor a pattern of one"),
        (["create", "--reserve=-x"], "--reserve: "),
        (["create", "--max-tunnels=many"], "--max-tunnels: 'many' is not a count"),
        (["create", "--max-tunnels=-1"], "--max-tunnels: '-1' is not a count"),
        (["create", "--bandwidth=fast"], "--bandwidth: 'fast' is not a rate"),
        (["create", "--expires=soon"], "--expires: 'soon' is not a time"),
        (["create", "--expires=2020-01-01"], "--expires: '2020-01-01' is in the past; write a time in the future."),
        (["create", "--label=a\nb"], "--label: a label is one line of printable characters."),
        (["revoke", "aaaaaaaa"], "There is no token 'aaaaaaaa'; lt-server token list shows all of them."),
        (["update", "aaaaaaaa", "--label=x"], "There is no token 'aaaaaaaa'"),
    ],
)
def test_a_value_that_is_wrong(run, directory, argv, sentence):
    code, out, err = run(*argv)
    assert (code, out) == (exit_codes.USAGE, "")
    assert err.startswith(f"lt-server: {sentence}")
    assert records(directory) == ()


def test_a_file_that_others_may_read_is_not_used(run, directory):
    run("create")
    (directory / tokens.FILE).chmod(0o640)
    code, out, err = run("list")
    assert (code, out) == (exit_codes.CONFIG, "")
    assert "chmod 600" in err


def test_help(run):
    code, out, err = run("--help")
    assert (code, err) == (exit_codes.CLEAN, "")
    assert out.startswith("lt-server token: ")


@pytest.mark.parametrize(
    ("text", "rate"), [("1", 1), ("500k", 500_000), ("10M", 10_000_000), ("2G", 2_000_000_000), ("0", 0)]
)
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "k", "1.5M", "-1", "10m", "10 M", "1e6", "\u0661"])
def test_what_is_no_rate(text):
    with pytest.raises(ConfigError, match="not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", 1090.0),
        ("2m", 1120.0),
        ("1h", 4600.0),
        ("1d", 87400.0),
        ("2w", 1210600.0),
        ("1970-01-02", 86400.0),
        ("1970-01-02T01:00", 90000.0),
        ("1970-01-02T01:00+01:00", 86400.0),
    ],
)
def test_moments(text, moment):
    assert parse_moment(text, 1000.0) == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "1", "1y", "2027-02-30", "-1d"])
def test_what_is_no_moment(text):
    with pytest.raises(ConfigError, match="not a time"):
        parse_moment(text, 0.0)


@pytest.mark.parametrize("text", ["0s", "1970-01-01", "1970-01-01T00:16:40"])
def test_a_moment_that_is_over(text):
    with pytest.raises(ConfigError, match="is in the past; write a time in the future"):
        parse_moment(text, 1000.0)


@pytest.mark.parametrize("text", ["999999w", "9999-12-31T23:59-23:00"])
def test_a_moment_that_nobody_sees(text):
    with pytest.raises(ConfigError, match="is after the year 9998; write an earlier time, or never"):
        parse_moment(text, 0.0)


def test_a_moment_is_shown_in_utc():
    assert show_moment(90000.0) == "1970-01-02 01:00 UTC"
