"""The certificates that the backend shows: the operator's own, or one made at the first start.

Who is served with them, and which versions of TLS are spoken, is decided elsewhere.
"""
