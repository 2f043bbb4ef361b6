"""Names, hosts and ports: their owners, and for how long they are kept.

A name may outlive its tunnel and the process (``leases``). Nothing here knows how a
tunnel serves its visitors, and no connection is read or written.
"""
