"""The operator's door: what may be asked of a running server, over a socket of its own.

It reports on names and tunnels and ends them. It opens nothing, and serves nobody else.
"""
