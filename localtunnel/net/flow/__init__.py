"""Bytes on the move between two connections, in callbacks of the hub.

``ends`` is what is read and written, ``buffer`` where to, ``pump`` one read and one
write per event, ``relay`` two ends until both are done, and ``tapped`` such a relay
beside which somebody looks. This is the hot loop: nothing here knows a protocol, makes
a greenlet, or keeps a buffer for each connection.
"""
