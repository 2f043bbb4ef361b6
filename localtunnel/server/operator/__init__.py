"""The operator's door: the commands to a running server, over a socket of its own.

It lists names and tunnels, and ends them. It opens nothing, and serves nobody else.
"""
