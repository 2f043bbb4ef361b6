"""HTTP/1.x for both programs, without a socket, without gevent and without a clock.

message/      one message: heads, fields, framing, bodies
options/      what a tunnel's options allow and change
forwarding/   the heads that go on
pages/        the answers of our own
conversation  one request and its answer, as a server changes them
observer      the exchanges of a connection, as a client tells of them
exchange      one of these
lending       who may have a joined connection next
grammar       what several rooms look for in a head

They import downwards only: conversation, observer > exchange, lending, forwarding >
options > message > grammar, and pages > message.

The words of all rooms:

head         the bytes of a request or a response up to and including the blank line
head reader  collects what arrives, and gives the head back once it is whole, or
             refuses it
field        one line of a head or a trailer: its name, its value, and the line as it
             came
framing      what a head says of where its message ends, and whether the connection
             goes on
scanner      is shown a body's bytes as they pass and finds its end; it moves none of
             them
authority    a host and an optional port, as the Host field and an absolute target
             carry them
target       what stands between method and version: ``/path?query``,
             ``http://host/path`` or ``*``
answer       all that comes for one request: interim heads, the final one, and a body.
             One of our own is a complete response as bytes, and the connection is
             closed after it
error page   our answer to a request that no upstream answered; its code is that of the
             error
help         what an error page suggests, to the visitor and to the owner of the tunnel
"""
