"""What runs on the VPS.

app         wiring: what is started and stopped, in which order
config      the typed settings
frontend    the visitors' side: accept, identify, answer or hand to a tunnel
backend     the clients' side: the first message of each connection, and parking
control     control connections: opening a tunnel, heartbeats, what ends it
ports       public ports for TCP tunnels
registry    which name belongs to which tunnel
tunnel      one name, its pool and its joins
pool        the idle proxy connections of one tunnel
demand      how large a pool follows the demand of visitors
assigning   binding a join to a proxy connection, again if need be
join        one visitor on its way through a tunnel
meta        what the server tells about itself, under /meta/
"""
