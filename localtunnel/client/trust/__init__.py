"""The identity of the server, and that of this client.

trust          fingerprints, roots and pins, in that order
known_servers  the file of servers that were met
credentials    the file of tokens
identity       who this client is
link           reaching the backend, and verifying it before anything is sent

The client reads and keeps secrets here only.
"""
