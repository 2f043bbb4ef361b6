"""One session: a control connection, the pool that belongs to it, and the watch over
both.

session     the control connection once its tunnel is open
opening     asking for the tunnel, and logging in
proxies     the pool of proxy connections
stall       noticing that this machine has stood still
path        noticing that the way to the server has changed
round_trip  the time to the server and back

``app`` decides when the next session begins. No upstream is dialled here.
"""
