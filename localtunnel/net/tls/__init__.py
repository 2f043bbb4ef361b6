"""TLS on plain non-blocking sockets: contexts, handshakes, keys, and streams with an
end of their own.

Which server is trusted, and who logs in over the connection, is decided by the two
sides.
"""
