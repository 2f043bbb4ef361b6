"""The visitors' door: accepting, routing and serving those who come from the internet.

``frontend`` accepts for ``http_edge``, which decides about each request, or for
``join_edge``, which looks at the first one only; ``tcp_edge`` listens for each TCP
tunnel by itself. ``admission`` says who gets a place, and ``routes`` where a request
goes.

At ``http_edge``, ``connection`` is one visitor's requests in turn, and ``connections``
looks after all of them; ``delivery`` finds a connection through the tunnel for one
request, and ``exchange`` moves it and its answer. At the other two, a visitor is a
``stream_join``.

Clients and the operator have doors of their own, and nothing here imports those. How a
tunnel comes by its connections is ``tunnels``' affair.
"""
