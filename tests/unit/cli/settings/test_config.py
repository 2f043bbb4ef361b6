"""Settings: flag > environment > file > default, and whose fault a wrong one is."""

import subprocess
import sys

import pytest
from harness.places import ROOT

from localtunnel.cli.settings.config import MAX_FILE, client_config, server_config
from localtunnel.client.config import ClientConfig
from localtunnel.errors import ConfigError, LocaltunnelError, UsageError
from localtunnel.server.certificates.own import Certificate
from localtunnel.server.config import ServerConfig

PROXIES = """
public_url = "https://example.com"
trusted_proxies = ["10.0.0.0/8", "::1"]
proxy_protocol = true
[limits]
visitors = 0
address_connection_rate = 5
exempt = []
"""


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
        "--edge": "join",
        "--public-url": "https://example.com:8443/",
        "--tcp-ports": "20000-20999",
        "--pool-size": "7",
        "--grace": "2.5",
        "--log-level": "debug",
        "--log-format": "json",
    }
    assert server_config(arguments, {}) == ServerConfig(
        domain="example.com",
        frontend=":80",
        backend="[::1]:81",
        edge="join",
        public_url="https://example.com:8443/",
        tcp_ports="20000-20999",
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


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        ({}, "", ("http", None)),
        ({"tcp": True}, "", ("tcp", None)),
        ({"tcp": True, "--remote-port": "20022"}, "remote_port = 20000", ("tcp", 20022)),
        ({"tcp": True}, "remote_port = 20022", ("tcp", 20022)),
        ({}, 'kind = "tcp"\nremote_port = 20022', ("tcp", 20022)),
        ({"--remote-port": "20022"}, 'kind = "tcp"', ("tcp", 20022)),
        # What a file says about TCP tunnels means nothing to one for HTTP.
        ({"http": True}, 'kind = "tcp"\nremote_port = 20022', ("http", None)),
        ({}, "remote_port = 20022", ("http", None)),
    ],
)
def test_the_kind_of_tunnel_and_its_port(arguments, text, expected, written):
    config = client_config({"--config": written(text), "http": False, "tcp": False, **arguments}, {})
    assert (config.kind, config.remote_port) == expected


def test_a_port_for_a_tunnel_that_is_not_tcp_is_a_usage_error(written):
    path = written('kind = "tcp"')
    text = message(UsageError, client_config, {"--config": path, "http": True, "--remote-port": "20022"})
    assert text == "--remote-port: only a TCP tunnel has a public port of its own; write lt-client tcp."


@pytest.mark.parametrize("target", ["http://localhost:8080", "HTTP://app"])
def test_a_url_is_no_target_of_a_tcp_tunnel(target, written):
    text = message(UsageError, client_config, {"tcp": True, "<target>": target})
    assert text.startswith(f"<target>: {target!r} is not a target of a TCP tunnel")
    path = written(f'target = "{target}"')
    text = message(ConfigError, client_config, {"tcp": True, "--config": path})
    assert text.startswith(f"{path}: target: {target!r} is not a target of a TCP tunnel")
    # The stronger layer is the one that counts.
    assert client_config({"tcp": True, "--config": path, "<target>": "22"}, {}).target == "22"
    assert client_config({"--config": path}, {}).target == target


@pytest.mark.parametrize("target", ["22", ":22", "app:22", "[::1]:22"])
def test_every_other_form_is_a_target_of_a_tcp_tunnel(target):
    assert client_config({"tcp": True, "<target>": target}, {"HOME": "/nonexistent"}).target == target


@pytest.mark.parametrize(("text", "legacy"), [("", None), ("legacy = true", True), ("legacy = 'only'", "only")])
def test_whether_clients_of_0_2_are_let_in_is_read(written, text, legacy):
    assert server_config({"--config": written(text)}, {}).legacy == legacy


def test_the_servers_key_is_one_of_a_certificate(written):
    with pytest.raises(ConfigError, match="tls_certificate"):
        Certificate(server_config({"--config": written("tls_key = 'key.pem'")}, {}))


def test_only_a_range_of_ports_makes_the_settings_wait_for_gevent():
    """The client and every wrong setting would wait for it as well."""
    code = (
        "import sys; from localtunnel.cli.settings.config import client_config, server_config; "
        "client_config({'tcp': True, '<target>': '22'}, {}); server_config({'--tcp-ports': ''}, {}); "
        "print('gevent' in sys.modules); "
        "server_config({'--tcp-ports': '20000-20999'}, {})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_tables_of_a_file_are_read(written):
    config = server_config({"--config": written("[timeouts]\nhead = 3\n[limits]\nhead_bytes = 2048")}, {})
    assert (config.timeouts.head, config.limits.head_bytes) == (3.0, 2048)
    assert config.timeouts.preamble == ServerConfig().timeouts.preamble


def test_what_is_known_of_proxies_is_read(written):
    config = server_config({"--config": written(PROXIES), "--domain": "Example.com."}, {})
    assert (config.domain, config.public_url) == ("example.com", "https://example.com")
    assert config.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.proxy_protocol is True
    assert (config.limits.visitors, config.limits.address_connection_rate, config.limits.exempt) == (0, 5.0, ())


def test_a_public_url_is_held_against_the_domain_of_any_origin(written):
    path = written('domain = "example.org"')
    text = message(UsageError, server_config, {"--config": path, "--public-url": "https://example.com"})
    assert text == (
        "--public-url: its host is example.com, but tunnels get their hosts below example.org; set domain to the same"
        " name."
    )
    assert server_config({"--config": path, "--public-url": "https://Example.org"}, {}).domain == "example.org"


@pytest.mark.parametrize(
    ("text", "flags", "origin"),
    [
        ("", {"--backend": "8000"}, "--backend"),
        ("", {"--frontend": "127.0.0.1:9000", "--backend": "127.0.0.1:9000"}, "--backend"),
        ("backend = 9000", {"--frontend": ":9000"}, "--frontend"),
    ],
)
def test_visitors_and_clients_need_two_addresses(text, flags, origin, written):
    told = message(UsageError, server_config, {"--config": written(text), **flags})
    assert told == f"{origin}: frontend and backend are the same address; give them different ports."


def test_one_address_twice_in_a_file_is_the_files_fault(written):
    path = written("frontend = 9000\nbackend = 9000")
    told = message(ConfigError, server_config, {"--config": path})
    assert told == f"{path}: backend: frontend and backend are the same address; give them different ports."


def test_any_free_port_is_another_one_for_each():
    assert server_config({"--frontend": "0", "--backend": "0"}, {}).backend == "0"


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
        ("--edge", "https", "expected one of http, join, got 'https'."),
        ("--public-url", "example.com", "is not a public URL: it does not begin with http:// or https://."),
        (
            "--public-url",
            "https://example.com/",
            "its host is example.com, but tunnels get their hosts below localhost",
        ),
        ("--tcp-ports", "20000", "'20000' is not a range of ports; write it as FIRST-LAST, such as 20000-20999."),
        ("--tcp-ports", "20999-20000", "is not a range of ports"),
        ("--tcp-ports", "60000-70000", "is not a range of ports"),
        ("--tcp-ports", "0-10", "is not a range of ports"),
        ("--tcp-ports", "a-b", "is not a range of ports"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_that_names_it(flag, value, expected):
    text = message(UsageError, server_config, {flag: value})
    assert text.startswith(f"{flag}: ")
    assert expected in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ssh", "expected whole number, got string 'ssh'."),
        ("0", "expected whole number at least 1 and at most 65535, got 0."),
        ("65536", "expected whole number at least 1 and at most 65535, got 65536."),
    ],
)
def test_a_wrong_public_port_is_a_usage_error(value, expected):
    assert message(UsageError, client_config, {"tcp": True, "--remote-port": value}) == f"--remote-port: {expected}"


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
        ("timeouts = 3", "timeouts: expected table, got whole number; write [timeouts] on a line of its own."),
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
        ("tcp_ports = 20000", "tcp_ports: expected string, got whole number"),
        ("tcp_ports = '20000:20999'", "tcp_ports: '20000:20999' is not a range of ports; write it as FIRST-LAST"),
        ("legacy = 'maybe'", "legacy: expected boolean, got string 'maybe'."),
        ("legacy = 2", "legacy: expected boolean, got whole number."),
        ("edge = true", "edge: expected one of http, join, got True."),
        ("public_url = 'https://a/b'", "public_url: 'https://a/b' is not a public URL: it may not carry a path"),
        (
            "public_url = 'http://a.test'",
            "public_url: its host is a.test, but tunnels get their hosts below localhost",
        ),
        ("trusted_proxies = '10.0.0.1'", "trusted_proxies: expected array, got string; write it in brackets"),
        ("trusted_proxies = 1", "trusted_proxies: expected array, got whole number."),
        ("trusted_proxies = [1]", "trusted_proxies: in the array, expected string, got whole number"),
        ("trusted_proxies = ['10.0.0.1/8']", "trusted_proxies: '10.0.0.1/8' has bits right of its prefix; write"),
        ("proxy_protocol = true", "proxy_protocol: no visitor could connect, since trusted_proxies names no proxy"),
        ("proxy_protocol = 1", "proxy_protocol: expected boolean, got whole number"),
        ("[limits]\nvisitors = -1", "[limits] visitors: expected whole number at least 0, got -1."),
        ("[limits]\naddress_request_rate = -0.5", "[limits] address_request_rate: expected number at least 0 and at"),
        ("[limits]\ntunnel_request_rate = inf", "[limits] tunnel_request_rate: expected number at least 0 and at most"),
        ("[limits]\nexempt = ['home']", "[limits] exempt: 'home' is not an IP address or network; write it as"),
        ("[limits]\nexempt = '::1'", "[limits] exempt: expected array, got string"),
        ("[timeouts]\nlease = 0", "[timeouts] lease: expected number above 0 and at most 86400, got 0."),
        ("[limits]\ntunnel_concurrency = 3", "[limits] tunnel_concurrency: expected whole number at least 4"),
        ("[limits]\ntotal_concurrency = 0", "[limits] total_concurrency: expected whole number at least 1, got 0."),
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


@pytest.mark.parametrize("data", [b"\xff\xff", b"#" * (MAX_FILE + 1)])
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


OPTIONS = {
    "--domain": "www.example.org",
    "--protect": "ann:secret",
    "--allow-ip": ["10.0.0.0/8", "::1"],
    "--host-header": "rewrite",
    "--request-header-add": ["X-A: b", "X-C: d"],
    "--request-header-remove": ["Cookie"],
    "--response-header-add": ["X-E: f"],
    "--cors": True,
    "--server-timing": True,
}


def test_every_option_of_the_tunnel_arrives():
    assert client_config({"<target>": "8080", **OPTIONS}, {}) == ClientConfig(
        target="8080",
        domain="www.example.org",
        protect="ann:secret",
        allow_ip=("10.0.0.0/8", "::1"),
        host_header="rewrite",
        request_header_add=("X-A: b", "X-C: d"),
        request_header_remove=("Cookie",),
        response_header_add=("X-E: f",),
        cors=True,
        server_timing=True,
    )


def test_a_list_on_the_command_line_takes_the_place_of_the_files(written):
    path = written('allow_ip = ["10.0.0.1"]\nprotect = "file:secret"')
    assert client_config({"--config": path, "--allow-ip": []}, {}).allow_ip == ("10.0.0.1",)
    config = client_config({"--config": path, "--allow-ip": ["::1"]}, {"LT_PROTECT": "ann:secret"})
    assert (config.allow_ip, config.protect) == (("::1",), "ann:secret")


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--domain", "www.example.org:80", "not a domain"),
        ("--protect", "hush", "expected USER:PASSWORD"),
        ("--protect", "ann:" + "hush" * 100, "404 characters"),
        ("--allow-ip", ["10.0.0.0/8", "10.0.0.0/33"], "'10.0.0.0/33' is not a network"),
        ("--allow-ip", ["1" * 1025], "with at least 1 characters and with at most 1024 characters"),
        ("--host-header", "http://app", "'http://app' is not a host"),
        ("--host-header", "", "it is empty; write preserve, rewrite, HOST or HOST:PORT."),
        ("--request-header-add", ["X-A"], "'X-A' has no colon"),
        ("--request-header-add", ["Host: a"], "Host cannot be changed here; use --host-header."),
        ("--request-header-remove", ["X A"], "'X A' is not the name of a field"),
        ("--response-header-add", ["Content-Length: 0"], "Content-Length concerns the connection"),
    ],
)
def test_a_malformed_option_is_told_before_anything_is_connected(flag, value, reason, written):
    text = message(UsageError, client_config, {flag: value})
    assert text.startswith(f"{flag}: ")
    assert reason in text
    assert "hush" not in text
    key = flag.removeprefix("--").replace("-", "_")
    path = written(f"{key} = {value!r}")
    assert message(ConfigError, client_config, {"--config": path}).startswith(f"{path}: {key}: ")


def test_a_malformed_password_in_the_environment_names_its_variable():
    text = message(ConfigError, client_config, {}, {"LT_PROTECT": "hush"})
    assert text.startswith("LT_PROTECT: expected USER:PASSWORD")


@pytest.mark.parametrize("flag", OPTIONS)
def test_a_tcp_tunnel_has_no_options_but_allow_ip(flag, written):
    arguments = {"tcp": True, flag: OPTIONS[flag]}
    if flag == "--allow-ip":
        assert client_config(arguments, {}).allow_ip == ("10.0.0.0/8", "::1")
        return
    text = message(UsageError, client_config, arguments)
    assert text == f"{flag}: only an HTTP tunnel can have this; leave it out, or leave tcp out."


def test_what_a_file_says_of_http_means_nothing_to_a_tcp_tunnel_but_the_password_does(written):
    path = written('kind = "tcp"\ncors = true\ndomain = "www.example.org"\nallow_ip = ["::1"]')
    config = client_config({"--config": path}, {})
    assert (config.cors, config.domain, config.allow_ip) == (False, None, ("::1",))
    path = written('kind = "tcp"\nprotect = "ann:secret"')
    assert "only an HTTP tunnel" in message(ConfigError, client_config, {"--config": path})
    assert "only an HTTP tunnel" in message(ConfigError, client_config, {"tcp": True}, {"LT_PROTECT": "ann:secret"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("load", "text"), [(server_config, "domain = 'a.test'"), (client_config, "name = 'a'")])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path, load, text, encoding):
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding=encoding)
    plain = tmp_path / "plain.toml"
    plain.write_text(text)
    assert load({"--config": str(path)}, {}) == load({"--config": str(plain)}, {})
