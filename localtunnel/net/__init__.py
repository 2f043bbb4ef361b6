"""Sockets, shared by both sides. Nothing outside this package imports ``socket`` or ``ssl``.

address     texts into addresses: where to listen, whom to dial
listen      a StreamServer whose callback gets plain non-blocking sockets
dial        connecting: resolve once, try every address, one deadline
deadline    a total time over several steps, and waiting for a socket within it
channel     LTP messages on a socket, and handing over what was not read
ends        what the pump knows of an end, and a socket as one
relay       the pump: two ends, bytes only, until both directions have ended
closing     the ways a connection ends: closed, reset, or lingering until the peer has read the last word
hangups     hearing that a peer has gone while nobody reads from it
heartbeat   keeping an LTP/0.3 control connection alive
descriptors the kernel's table of descriptors, grown before visitors come
sockets     options, and the one place where an OSError becomes an error of ours

Every socket here is a plain non-blocking ``socket.socket``. A greenlet that must wait for one does so through
``deadline``; everything else is a watcher's callback in the hub. Whoever holds a socket closes it; handing over is by
return value or argument, and is said in the docstring.
"""
