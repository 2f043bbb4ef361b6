"""Sockets, shared by both sides. Nothing outside this package imports ``socket`` or
``ssl``.

address     texts into addresses: where to listen, whom to dial
listen      a StreamServer whose callback gets plain non-blocking sockets
dial        connecting: resolve once, try every address, one deadline
deadline    a total time over several steps, and waiting for sockets within it
channel     LTP messages on a socket, and handing over what was not read
closing     the ways a connection ends: closed, reset, or lingering for the last word
heartbeat   keeping an LTP/0.3 control connection alive
descriptors the kernel's table of descriptors, grown before visitors come
local       a unix socket for the operator
signals     the signals that ask a program to stop
sockets     options, and the one place where an OSError becomes an error of ours
flow/       moving bytes between two connections
tls/        the same sockets, encrypted

tls imports flow, and both import the modules above, never the other way round.

Every socket here is a plain non-blocking ``socket.socket``. A greenlet that must wait
for one does so through ``deadline``; everything else is a watcher's callback in the
hub. The owner of a socket closes it. Ownership moves by return value or argument, and
the docstring says so.
"""
