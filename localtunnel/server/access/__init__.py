"""Who may come in: tokens, the logins that prove them, and banned addresses.

How much somebody may have once inside is ``limits``' part.
"""
