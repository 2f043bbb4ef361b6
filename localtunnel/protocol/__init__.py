"""The Localtunnel Protocol as pure code: bytes in, typed values out. No socket, no
gevent, no clock.

version     which versions there are, and what each of them has
messages    the typed messages
states      which message may come when, on both connection types, as tables
names       which names a tunnel may have, and how a memorable one is made
reserved    which names it gets from no server
options     what a client may ask of its tunnel
pace        how many messages may come
limits      every limit and interval, with what it bounds and why
wire/       header and frames, the JSON of messages, chunks of a stream
login/      tokens, and the proof that a client has one

PROTOCOL.md says the same in prose. A change of the protocol lands here and nowhere
else.
"""
