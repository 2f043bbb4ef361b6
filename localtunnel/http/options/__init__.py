"""The options of a tunnel that change or guard its HTTP: which values they take, and
their rules.

``values`` is checked by the client and by the server alike; ``rules`` is what a server
holds against each request. How a head is rewritten is ``forwarding``'s part.
"""
