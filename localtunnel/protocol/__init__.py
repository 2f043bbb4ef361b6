"""The Localtunnel Protocol as pure code: bytes in, typed values out. No socket, no gevent, no clock.

framing     the protocol header and length-prefixed frames, as a sans-I/O decoder
messages    the typed messages
codec       their JSON
states      which message may come when, on both connection types, as tables
names       which names a tunnel may have, and how a memorable one is made
limits      every limit and interval, with what it bounds and why

PROTOCOL.md says the same in prose. A change of the protocol lands here and nowhere else.
"""
