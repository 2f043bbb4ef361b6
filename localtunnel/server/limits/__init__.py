"""How much one client, address or tunnel may have: quotas, rates and turns.

Pure arithmetic: nothing here holds a connection, waits, or knows what it counts.
"""
