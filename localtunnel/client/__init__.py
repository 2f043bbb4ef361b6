"""What runs on the laptop.

app         the client: one session after the other, until its user stops it
config      the typed settings
options     what the client asks of its tunnel
events      values that describe what happens, for output
discovery   asking the server's frontend where its backend is
fallback    whether to speak LTP/0.2
retry       when to try again
sessions/   one control connection, and its pool of proxy connections
trust/      the identity of the server, and of this client
visits/     visitors, each on the way to the upstream

app imports all of it; a session imports visits and trust, which do not know each other.
"""
