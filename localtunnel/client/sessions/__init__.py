"""One session: a control connection, the pool that belongs to it, and the watch over both.

session     the control connection once its tunnel is open
opening     asking for the tunnel, and logging in
proxies     the pool of proxy connections
stall       noticing that this machine has stood still
path        noticing that the way to the server has changed
round_trip  how far the server is

When to begin the next session is decided in ``app``, and no upstream is dialled here.
"""
