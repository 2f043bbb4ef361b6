"""``lt-server check``: everything that is wrong with a settings file, without a server."""

import pytest

from localtunnel.cli import exit_codes, server
from localtunnel.net.tls import keys


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    for variable in ("LT_CONFIG", "LT_LOG_LEVEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(*argv):
        code = server.main(["check", *argv])
        captured = capfd.readouterr()
        assert captured.out == ""
        return code, captured.err

    return run


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "server.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_valid_file_says_so_and_makes_nothing(how, run, written, tmp_path, monkeypatch):
    path = written('domain = "example.com"\n[limits]\nvisitors = 10\n')
    if how == "variable":
        monkeypatch.setenv("LT_CONFIG", path)
    answer = run(f"--config={path}") if how == "flag" else run()
    assert answer == (exit_codes.CLEAN, f"The settings in {path} are valid.\n")
    assert not (tmp_path / "data").exists()


def test_everything_that_is_wrong_is_listed(run, written, monkeypatch):
    monkeypatch.setenv("LT_LOG_LEVEL", "loud")
    path = written(
        'domian = "a"\nfrontend = "a:b:c"\ntrusted_proxies = "::1"\n[limits]\nvisitors = -1\nexempt = ["x"]\n'
    )
    code, err = run(f"--config={path}")
    assert code == exit_codes.CONFIG
    lines = err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["lt-server"] * 6
    said = [line.removeprefix(f"lt-server: {path}: ") for line in lines]
    for start in (
        "domian: unknown key; did you mean domain?",
        "frontend: 'a:b:c' is not an address",
        "trusted_proxies: expected array, got string; write it in brackets, as in ['::1'].",
        "[limits] visitors: expected whole number at least 0",
        "[limits] exempt: 'x' is not an IP address or network",
        "lt-server: LT_LOG_LEVEL: expected one of",
    ):
        assert len([line for line in said if line.startswith(start)]) == 1, start


def test_values_that_contradict_each_other_are_listed(run, written):
    path = written(
        'frontend = 80\nbackend = 80\nproxy_protocol = true\npublic_url = "https://a.test"\ntls_key = "key.pem"\n'
    )
    code, err = run(f"--config={path}")
    assert code == exit_codes.CONFIG
    keys = [line.removeprefix(f"lt-server: {path}: ").partition(":")[0] for line in err.splitlines()]
    assert keys == ["backend", "proxy_protocol", "public_url", "tls_key"]


def test_the_certificate_that_is_named_is_loaded(run, written, tmp_path):
    pem = tmp_path / "server.pem"
    path = written(f'tls_certificate = "{pem}"\n')
    code, err = run(f"--config={path}")
    assert code == exit_codes.CONFIG
    assert str(pem) in err
    pem.write_bytes(keys.make_self_signed("example.com"))
    assert run(f"--config={path}")[0] == exit_codes.CLEAN


@pytest.mark.parametrize("text", ["domain = ", None])
def test_a_file_that_cannot_be_read_is_one_fault(text, run, written, tmp_path):
    path = str(tmp_path / "missing.toml") if text is None else written(text)
    code, err = run(f"--config={path}")
    assert code == exit_codes.CONFIG
    assert len(err.splitlines()) == 1


def test_without_a_file_there_is_nothing_to_check(run):
    code, err = run()
    assert code == exit_codes.USAGE
    assert err.startswith("lt-server: No settings file: name it with --config=FILE.\n\nUsage:\n  lt-server check")
