"""The clients' door: the backend, from a client's first byte to its open tunnel.

``arrival`` reads the first message, ``backend`` sorts connections by it, ``opening``
turns a control request into a tunnel, and ``control`` keeps it until it ends.

Nothing here knows visitors, HTTP connections or the operator's socket.
"""
