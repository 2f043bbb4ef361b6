"""Bytes on the wire: frames, the JSON in them, and the chunks of a stream over TLS.

``states``, beside this room, says which message may come when.
"""
