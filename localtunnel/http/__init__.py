"""HTTP/1.x for both programs, without a socket, without gevent and without a clock.

message/     one message: heads, fields, framing, bodies
options/     what a tunnel's options allow and change
forwarding/  the heads that go on
pages/       the answers of our own
``conversation`` and ``observer`` read both directions of a connection: one to change
what goes on, the other to tell of it. The rooms import downwards only: conversation,
observer > forwarding > options > message, and pages > message.

The words of all rooms:

head         the bytes of a request or a response up to and including the blank line
head reader  collects what arrives and gives the head back once it is whole, or refuses it
field        one line of a head or a trailer: its name, its value, and the line as it came
framing      what a head says of where its message ends, and whether the connection goes on
scanner      is shown a body's bytes as they pass and finds its end; it moves none of them
authority    a host and an optional port, as the Host field and an absolute target carry them
target       what stands between method and version: ``/path?query``, ``http://host/path`` or ``*``
answer       a complete response as bytes, after which the connection is closed
error page   the answer to a request that no upstream answered; its code is that of the error
help         what an error page suggests, to the visitor and to the owner of the tunnel
"""
