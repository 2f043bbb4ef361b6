"""Commands that do one thing and end: login, tokens, tunnels, fingerprint and check.

Each has its docopt text and a ``command``. None of them runs a server or a client.
``table`` prints their rows.
"""
