"""Dialling over TLS: a connection and a handshake, within one deadline."""

from collections.abc import Sequence

from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, dial
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.context import Context, Ticket
from localtunnel.net.tls.handshake import shake_hands, wrap


def connect(
    addresses: Sequence[Address], deadline: Deadline, context: Context, host: str, session: Ticket | None = None
) -> tuple[Socket, Address]:
    """Do what ``net.dial.dial`` does, and return a TLS socket.

    ``host`` is what the certificate has to be for; ``session`` is resumed if the server
    still can.
    """
    sock, address = dial(addresses, deadline)
    tls = wrap(sock, context, host=host, session=session)
    shake_hands(tls, deadline)
    return tls, address
