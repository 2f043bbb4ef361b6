"""One open tunnel: its pool of proxy connections, and how visitors are bound to them.

A visitor asks for a connection through ``tunnel``; ``assigning`` finds one, and
``kept`` lends again what an exchange has left behind, where ``http.lending`` allows it.

Nothing here asks who may open a tunnel, or where its visitors come from.
"""
