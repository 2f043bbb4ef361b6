"""What runs on the laptop.

app         the client: sessions one after the other, for as long as its user wants
config      the typed settings
options     what the client asks of its tunnel
events      what happens, as values for whatever shows it
discovery   asking the server's frontend where its backend is
fallback    whether to speak LTP/0.2
retry       when to try again
sessions/   one control connection, and its pool of proxy connections
trust/      whether the server is the right one, and who this client is
visits/     visitors, each on the way to the upstream

app imports all of it; a session imports visits and trust, which know nothing of each other.
"""
