"""Assigned visitors, from the assignment to the last byte of the upstream.

visits    all of them
visit     one of them
upstream  the local server: where it is, and dialling it
requests  the requests on a connection, to be shown

A visit dials only the target that the user named.
"""
