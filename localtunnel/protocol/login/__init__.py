"""Logging in: the token as a word, and the proof that its owner has it.

The server knows which tokens there are and what they allow.
"""
