"""The visitors' door: accepting, routing and serving those who come from the internet.

``frontend`` accepts; ``http_edge`` decides about each request, ``join_edge`` about the
first one only. ``connection`` is one visitor's requests in turn; ``delivery`` finds a
connection for one of them, and ``exchange`` moves it and its answer.

Clients and the operator have doors of their own, and nothing here imports those. How a
tunnel comes by its connections is ``tunnels``' affair.
"""
