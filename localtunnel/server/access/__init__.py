"""Access for clients: tokens, logins with them, and banned addresses.

How much a client may have once it is admitted belongs to ``limits``.
"""
