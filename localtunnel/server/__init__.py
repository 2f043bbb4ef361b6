"""What runs on the VPS.

app            wiring: what is started and stopped, in which order
config         the typed settings
store          the file that outlives the process
stats          the numbers of the moment, which ``visitors`` shows
visitors/      the door to the internet: from accept to the last byte of an answer
clients/       the door for tunnel clients: first messages, control connections, opening
operator/      the door for the operator of a running server
names/         which names and ports exist, and whose they are
tunnels/       one name's proxy connections, and how visitors are given them
access/        tokens, logins and bans
limits/        how much one client, address or tunnel may have
certificates/  the key that the backend shows

A room imports only what stands below it here: app > visitors | clients | operator >
names > tunnels > access > limits | certificates > store | config | stats. The three
doors never import each other; what they share is below them, or is handed in by
``app``.
"""
