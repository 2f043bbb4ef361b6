"""One open tunnel: its pool of proxy connections, and how visitors are bound to them.

A visitor is a ``join``, and asks for a connection through ``tunnel``. ``assigning``
finds one in the ``pool``, whose size is up to ``demand``; ``kept`` lends again what an
exchange has left behind, where ``http.lending`` allows it. Where the tunnel ends first,
``succession`` leads on to the next one of its name; ``refusals`` are what its client is
told of.

Nothing here asks who may open a tunnel, or where its visitors come from.
"""
