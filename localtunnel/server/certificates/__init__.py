"""The certificates of the backend: the operator's own, or one made at the first start.

The peers that see them, and the versions of TLS, are decided elsewhere.
"""
