"""The options and commands of other tunnels, with their counterparts here, for users
who type them out of habit.

A table for each of our programs: tool, option, and the end of the sentence "its
--option is …". Options that have the same meaning here are left out.
"""

from collections.abc import Mapping

_TARGET = "the target, without an option, as in lt-client 8080"
_HOST_AND_PORT = "the target, as in lt-client 192.168.0.7:8080"
_PASSWORD = "--protect=USER:PASSWORD, which asks visitors for a password"
_LOGIN = "lt-client login SERVER, which asks for the token: other users can see a command line"
_NO_TLS = "without a counterpart: the target is spoken to in plain HTTP"
_NO_LOGIN_PAGE = "without a counterpart; --protect asks visitors for a password, --allow-ip admits some addresses only"
_ALWAYS = "not needed: every request is shown"
_SERVERS_URL = "the server's to decide, by its public_url"
_NOT_NEEDED = "not needed, since nothing here goes through ssh"
_OWN_HOST = "--domain for a host of your own, --name for a name below the server's domain"

CLIENT: Mapping[str, Mapping[str, str]] = {
    "ngrok": {
        "--url": _OWN_HOST,
        "--hostname": _OWN_HOST,
        "--basic-auth": _PASSWORD,
        "--auth": _PASSWORD,
        "--httpauth": _PASSWORD,
        "--authtoken": _LOGIN,
        "--region": "without a counterpart: --server names the one server",
        "--remote-addr": "--remote-port, with tcp",
        "--cidr-allow": "--allow-ip",
        "--cidr-deny": "without a counterpart: --allow-ip lets in what it names and nothing else",
        "--response-header-remove": "without a counterpart; --response-header-add replaces a field",
        "--oauth": _NO_LOGIN_PAGE,
        "--oidc": _NO_LOGIN_PAGE,
        "--scheme": _SERVERS_URL,
        "--bind-tls": _SERVERS_URL,
        "--inspect": _ALWAYS,
        "--log": "2>FILE, since the log goes to stderr; --log-level says how much of it",
        "--log-format": "--json, for one object per line",
    },
    "lt": {
        "--port": _TARGET,
        "-p": _TARGET,
        "--host": "--server=HOST",
        "--local-host": _HOST_AND_PORT,
        "-l": _HOST_AND_PORT,
        "--local-https": _NO_TLS,
        "--local-cert": _NO_TLS,
        "--local-key": _NO_TLS,
        "--local-ca": _NO_TLS,
        "--allow-invalid-cert": _NO_TLS,
        "--open": "without a counterpart: open the URL that is printed",
        "-o": "without a counterpart: open the URL that is printed",
        "--print-requests": _ALWAYS,
    },
    "frp": {
        "--server-addr": "--server=HOST",
        "--server-port": "the port in --server=HOST:PORT; --backend is found by itself",
        "-P": "the port in --server=HOST:PORT; --backend is found by itself",
        "--local-port": _TARGET,
        "-l": _TARGET,
        "--local-ip": _HOST_AND_PORT,
        "-i": _HOST_AND_PORT,
        "-r": "--remote-port, with tcp",
        "--proxy-name": "not needed: a tunnel is known by its --name",
        "--sd": "--name",
        "--custom-domain": "--domain",
        "-v": "--version",
        "-d": "--domain",
        "--http-user": _PASSWORD,
        "--http-pwd": _PASSWORD,
        "--host-header-rewrite": "--host-header=HOST",
        "--token": _LOGIN,
        "-t": _LOGIN,
        "--user": "not needed: a name belongs to its owner's token or key",
        "-u": "not needed: a name belongs to its owner's token or key",
        "-c": "--config=FILE",
    },
    "cloudflared": {
        "--url": _TARGET,
        "--hostname": _OWN_HOST,
        "--http-host-header": "--host-header=HOST",
        "--loglevel": "--log-level",
        "--logfile": "2>FILE, since the log goes to stderr",
        "--no-tls-verify": _NO_TLS,
        "--token": _LOGIN,
        "--credentials-file": "--token-file=FILE",
        "--hello-world": "without a counterpart; make demo runs a sample application",
    },
    "bore": {
        "--to": "--server=HOST",
        "-t": "--server=HOST",
        "--port": "--remote-port=N, with tcp",
        "-p": "--remote-port=N, with tcp",
        "--local-host": _HOST_AND_PORT,
        "-l": _HOST_AND_PORT,
        "--secret": _LOGIN,
    },
    "ssh": {
        "-R": "the target alone, as in lt-client --server=HOST 8080, or lt-client tcp for other protocols",
        "-p": "the port in --server=HOST:PORT",
        "-i": "a token, which lt-client login SERVER stores",
        "-l": "without a counterpart: a token says who you are",
        "-v": "--log-level=debug",
        "-N": _NOT_NEEDED,
        "-T": _NOT_NEEDED,
        "-f": "without a counterpart: end the line with &, or let a service manager run it",
        "-o": "without a counterpart: lt-client --help explains every option",
    },
    "zrok": {
        "--verbose": "--log-level=debug",
        "-v": "--log-level=debug",
    },
    "sish": {
        "-R": "--name=NAME and the target, as in lt-client --name=NAME 8080",
    },
}

SERVER: Mapping[str, Mapping[str, str]] = {
    "lt": {
        "--port": "--frontend=PORT",
        "--address": "the host in --frontend=HOST:PORT",
        "--secure": "--public-url=https://DOMAIN",
        "--max-sockets": "[limits] in the settings file",
    },
    "frp": {
        "--bind-addr": "the host in --backend=HOST:PORT",
        "--bind-port": "--backend=PORT",
        "--vhost-http-port": "--frontend=PORT",
        "--vhost-https-port": "without a counterpart: a TLS proxy stands before the frontend, and --public-url says so",
        "--subdomain-host": "--domain",
        "--allow-ports": "--tcp-ports=FIRST-LAST",
        "--token": "lt-server token create, which makes one for each user",
        "--max-ports-per-client": "[quotas] in the settings file",
        "-t": "lt-server check",
        "-v": "--version",
        "-c": "--config=FILE",
    },
    "bore": {
        "--min-port": "the first of --tcp-ports=FIRST-LAST",
        "--max-port": "the last of --tcp-ports=FIRST-LAST",
        "--secret": "lt-server token create, which makes one for each user",
        "--bind-addr": "the host in --backend=HOST:PORT",
    },
    "sish": {
        "--http-address": "--frontend",
        "--ssh-address": "--backend",
        "--authentication-password": "lt-server token create",
        "--bind-random-subdomains": "not needed: lt-client makes a name up where it is given none",
    },
}

CLIENT_WORDS: Mapping[str, str] = {
    "local": "that of bore is tcp, as in lt-client tcp 22",
    "authtoken": "that of ngrok is lt-client login SERVER",
    "config": "that of ngrok, with add-authtoken, is lt-client login SERVER",
    "start": "that of ngrok is lt-client alone, with the target in its settings file",
    "tls": "that of ngrok is tcp, which passes TLS on to your server",
    "tunnel": "that of cloudflared is lt-client with the target alone, as in lt-client 8080",
    "udp": "only TCP passes, with tcp",
    "help": "it is lt-client --help",
    "version": "it is lt-client --version",
}
"""Words that users type as commands of ``lt-client`` out of habit."""

SERVER_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("start", "serve", "run", "server"), "lt-server alone starts the server"),
    **dict.fromkeys(("http", "tcp", "login"), "it is one of lt-client, which opens tunnels"),
    **dict.fromkeys(("verify", "validate"), "it is lt-server check"),
    "help": "it is lt-server --help",
    "version": "it is lt-server --version",
}
"""The same for ``lt-server``."""

_TABLES = {"lt-client": CLIENT, "lt-server": SERVER}
_WORDS = {"lt-client": CLIENT_WORDS, "lt-server": SERVER_WORDS}


def option(program: str, name: str) -> str | None:
    """Return the counterpart of other tunnels' option ``name`` in ``program``, as the
    end of a sentence, or None.

    frp also writes its options with underscores.
    """
    spelled = name.replace("_", "-") if name.startswith("--") else name
    found: dict[str, list[str]] = {}
    for tool, options in _TABLES.get(program, {}).items():
        if spelled in options:
            found.setdefault(options[spelled], []).append(tool)
    if not found:
        return None
    return "; ".join(f"that of {' and '.join(tools)} is {ours}" for ours, tools in found.items())


def is_of(program: str, tool: str, name: str) -> bool:
    """Say whether ``name`` is an option of ``tool`` that has a counterpart in
    ``program``."""
    return name in _TABLES.get(program, {}).get(tool, {})


def word(program: str, name: str) -> str | None:
    """Return the counterpart of the command ``name`` in ``program``, as ``option``
    does."""
    return _WORDS.get(program, {}).get(name)
