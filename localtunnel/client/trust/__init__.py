"""Which server is the right one, and who this client is to it.

trust          fingerprints, roots and pins, in that order
known_servers  the file of servers that were met
credentials    the file of tokens
identity       who this client is
link           reaching the backend, and looking at it before anything is said

Secrets are read and kept here and nowhere else on the client's side.
"""
