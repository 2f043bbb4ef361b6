"""Logging in: the token as a word, and the proof that its owner has it.

Who has which token, and what it allows, is the server's to know.
"""
