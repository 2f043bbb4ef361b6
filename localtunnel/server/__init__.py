"""What runs on the VPS.

app         wiring: what is started and stopped, in which order
config      the typed settings
frontend    the visitors' side: accept, identify, answer or hand to a tunnel
backend     the clients' side: control connections, proxy connections
registry    which name belongs to which tunnel
tunnel      one name, its pool and its joins
pool        the idle proxy connections of one tunnel
join        one visitor on its way through a tunnel
meta        what the server tells about itself, under /meta/
"""
