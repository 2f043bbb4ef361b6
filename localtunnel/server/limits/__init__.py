"""Limits for one client, address or tunnel: quotas, rates and turns.

Pure arithmetic: nothing here owns a connection, waits, or knows the things that it
counts.
"""
