"""What several rooms look for in a head, as parts of regular expressions."""

TOKEN_CHARACTERS = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"

TOKEN = rb"[%b]+" % TOKEN_CHARACTERS
"""A token, such as a method or the name of a field (RFC 9110, section 5.6.2)."""
