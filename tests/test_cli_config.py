"""Settings: flag > environment > file > default, and whose fault a wrong one is."""

import pytest

from localtunnel.cli.config import MAX_FILE, client_config, server_config
from localtunnel.client.config import ClientConfig
from localtunnel.errors import ConfigError, LocaltunnelError, UsageError
from localtunnel.server.config import ServerConfig


@pytest.fixture
def written(tmp_path):
    """A function that writes a settings file and returns its path."""

    def write(text, name="settings.toml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def message(error, function, arguments, environ=None):
    with pytest.raises(LocaltunnelError) as caught:
        function(arguments, environ or {})
    assert type(caught.value) is error
    return str(caught.value)


def test_nothing_given_is_the_default():
    assert server_config({}, {}) == ServerConfig()
    assert client_config({}, {"HOME": "/nonexistent"}) == ClientConfig()


@pytest.mark.parametrize("layers", ["file", "file environment", "file environment flag", "environment", "flag"])
def test_the_stronger_layer_wins(layers, written):
    arguments = {"--server": "flag:1"} if "flag" in layers else {}
    environ = {"LT_SERVER": "environment:1"} if "environment" in layers else {}
    if "file" in layers:
        arguments["--config"] = written('server = "file:1"\nname = "from-file"')
    config = client_config(arguments, environ)
    assert config.server == f"{layers.split()[-1]}:1"
    assert config.name == ("from-file" if "file" in layers else None)


def test_every_flag_of_the_server_arrives_with_its_type():
    arguments = {
        "--domain": "Example.com.",
        "--frontend": ":80",
        "--backend": "[::1]:81",
        "--pool-size": "7",
        "--grace": "2.5",
        "--log-level": "debug",
        "--log-format": "json",
    }
    assert server_config(arguments, {}) == ServerConfig(
        domain="example.com",
        frontend=":80",
        backend="[::1]:81",
        pool_size=7,
        grace=2.5,
        log_level="debug",
        log_format="json",
    )


def test_every_flag_and_variable_of_the_client_arrives():
    arguments = {"<target>": "8080", "--subdomain": "demo", "--backend": "8001", "--no-retry": True, "--json": True}
    environ = {"LT_SERVER": "example.com", "LT_LOG_LEVEL": "error"}
    assert client_config(arguments, environ) == ClientConfig(
        target="8080", name="demo", backend="8001", retry=False, server="example.com", log_level="error"
    )
    assert client_config({}, {"LT_NAME": "null"}).name == "null"


def test_tables_of_a_file_are_read(written):
    config = server_config({"--config": written("[timeouts]\nhead = 3\n[limits]\nhead_bytes = 2048")}, {})
    assert (config.timeouts.head, config.limits.head_bytes) == (3.0, 2048)
    assert config.timeouts.preamble == ServerConfig().timeouts.preamble


def test_the_clients_variables_mean_nothing_to_the_server():
    assert server_config({}, {"LT_SERVER": "???", "LT_NAME": "???"}) == ServerConfig()


def test_an_empty_variable_counts_as_unset():
    environ = {"LT_SERVER": "", "LT_NAME": "", "LT_CONFIG": "", "LT_LOG_LEVEL": "", "HOME": "/nonexistent"}
    assert client_config({}, environ) == ClientConfig()


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--pool-size", "abc", "expected whole number, got string 'abc'"),
        ("--pool-size", "1.5", "expected whole number"),
        ("--pool-size", "0", "at least 1 and at most 1000, got 0"),
        ("--grace", "soon", "expected number, got string 'soon'"),
        ("--grace", "-1", "at least 0"),
        ("--grace", "nan", "got nan"),
        ("--log-level", "loud", "one of debug, info, warning, error, got 'loud'"),
        ("--log-format", "xml", "one of text, json"),
        ("--frontend", "host", "is not an address to listen on"),
        ("--backend", "", "is not an address to listen on"),
        ("--domain", "http://example.com", "is not a domain"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_that_names_it(flag, value, expected):
    text = message(UsageError, server_config, {flag: value})
    assert text.startswith(f"{flag}: ")
    assert expected in text


@pytest.mark.parametrize(("flag", "value"), [("<target>", "app"), ("--server", "a b"), ("--backend", "0")])
def test_a_wrong_address_of_the_client_is_a_usage_error(flag, value):
    assert message(UsageError, client_config, {flag: value}).startswith(f"{flag}: {value!r} is not ")


def test_name_and_its_alias_exclude_each_other():
    assert "--name and --subdomain" in message(UsageError, client_config, {"--name": "a", "--subdomain": "a"})


@pytest.mark.parametrize(("variable", "value"), [("LT_LOG_LEVEL", "loud"), ("LT_SERVER", "a b")])
def test_a_wrong_variable_is_a_config_error_that_names_it(variable, value):
    assert message(ConfigError, client_config, {}, {variable: value}).startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[timeouts]\nhead = "x"', "[timeouts] head: expected number, got string"),
        ("[timeouts]\nhead = true", "[timeouts] head: expected number, got boolean"),
        ("[timeouts]\nhead = nan", "[timeouts] head: expected number above 0"),
        ("[timeouts]\nhaed = 1", "[timeouts] haed: unknown key; did you mean head?"),
        ("[timeouts.head]\nx = 1", "[timeouts] head: expected number, got table"),
        ("timeouts = 3", "timeouts: expected table, got whole number"),
        ("[[timeouts]]", "timeouts: expected table, got array"),
        ("domian = 'x'", "domian: unknown key; did you mean domain?"),
        ("zzz = 1", "zzz: unknown key."),
        ("frontend = 1.5", "frontend: expected whole number or string, got number"),
        ("frontend = 70000", "frontend: '70000' is not an address to listen on"),
        ("pool_size = 5000", "pool_size: expected whole number at least 1 and at most 1000, got 5000"),
        ("banner = 2020-01-01", "banner: expected string, got date"),
        ("log_level = 'loud'", "log_level: expected one of debug, info, warning, error, got 'loud'"),
        ("log_level = []", "log_level: expected one of debug, info, warning, error, got array"),
        ("domain = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_a_config_error_that_names_file_table_and_key(text, expected, written):
    path = written(text)
    assert message(ConfigError, server_config, {"--config": path}).startswith(f"{path}: {expected}")


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_named_file_that_is_missing_is_an_error(how, tmp_path):
    path = str(tmp_path / "missing.toml")
    arguments, environ = ({"--config": path}, {}) if how == "flag" else ({}, {"LT_CONFIG": path})
    text = message(ConfigError, server_config, arguments, environ)
    assert path in text
    assert "No such file" in text


@pytest.mark.parametrize("data", [b"\xff\xfe", b"#" * (MAX_FILE + 1)])
def test_a_file_that_is_no_settings_file_is_an_error(data, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes(data)
    assert str(path) in message(ConfigError, server_config, {"--config": str(path)})


def test_a_directory_is_no_file(tmp_path):
    assert "directory" in message(ConfigError, server_config, {"--config": str(tmp_path)})


def test_the_flag_names_another_file_than_the_variable(written):
    flag, variable = written("pool_size = 3", "a.toml"), written("pool_size = 4", "b.toml")
    assert server_config({"--config": flag}, {"LT_CONFIG": variable}).pool_size == 3
    assert server_config({}, {"LT_CONFIG": variable}).pool_size == 4


@pytest.mark.parametrize(
    ("below", "environ"),
    [
        ("home/.config", {"HOME": "{}/home"}),
        ("xdg", {"HOME": "{}/home", "XDG_CONFIG_HOME": "{}/xdg"}),
        ("home/.config", {"HOME": "{}/home", "XDG_CONFIG_HOME": "relative"}),
    ],
)
def test_the_client_reads_its_users_file(below, environ, written, tmp_path):
    written('name = "mine"', f"{below}/localtunnel/client.toml")
    environ = {key: value.format(tmp_path) for key, value in environ.items()}
    assert client_config({}, environ).name == "mine"
    assert server_config({}, environ) == ServerConfig()


def test_a_named_file_replaces_the_users_file(written, tmp_path):
    written('name = "mine"', ".config/localtunnel/client.toml")
    other = written("retry = false", "other.toml")
    config = client_config({"--config": other}, {"HOME": str(tmp_path)})
    assert (config.name, config.retry) == (None, False)
