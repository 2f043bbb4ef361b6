"""Bytes on the wire: frames, the JSON in them, and the chunks of a stream over TLS.

Which message may come when is said in ``states``, beside this room.
"""
