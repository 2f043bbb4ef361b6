"""Names, hosts and ports: which exist, whose they are, and for how long.

A name may outlive its tunnel and the process (``leases``). What a tunnel does with its
visitors is not known here, and no connection is read or written.
"""
