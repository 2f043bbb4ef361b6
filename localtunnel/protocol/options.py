"""The options of a tunnel on the wire (PROTOCOL.md, section 5.8): their names and
types.

``http.options`` knows what an option does and which values it has. An unknown option is
refused, not ignored: a tunnel without its guard would be open to every visitor.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from localtunnel.errors import OptionRefused
from localtunnel.protocol.limits import MAX_OPTION_ITEMS, MAX_OPTION_TEXT
from localtunnel.protocol.messages import ControlReply, ControlRequest, Text

Line = Annotated[str, Meta(max_length=MAX_OPTION_TEXT)]
Lines = Annotated[tuple[Line, ...], Meta(max_length=MAX_OPTION_ITEMS)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client asks of its tunnel. An option with its default is not asked for.

    ``protect`` is ``user:password``, ``host_header`` the Host that the upstream is to
    get, ``request_header_add`` and ``response_header_add`` hold field lines,
    ``request_header_remove`` names, ``allow_ip`` networks.
    """

    protect: Text | None = None
    host_header: Text | None = None
    request_header_add: Lines = ()
    request_header_remove: Lines = ()
    response_header_add: Lines = ()
    allow_ip: Lines = ()
    cors: bool = False
    server_timing: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The options that are asked for, as a server's reply repeats them."""
        return tuple(to_wire(self))


FOR_TCP = frozenset({"allow_ip"})
"""What a tunnel of the kind ``tcp`` may ask for: every other option needs the requests
to be read."""


def to_wire(options: Options) -> dict[str, object]:
    """Return the ``options`` of an LTP/0.3 control request."""
    wire: dict[str, object] = msgspec.to_builtins(options)
    return wire


def of_request(request: ControlRequest) -> Options:
    """Return the options that ``request`` asks for, ``protect`` of LTP/0.2 among them.

    Raises OptionRefused for an option that is unknown, has a wrong type, is given twice
    with different values, or needs a tunnel of another kind.
    """
    try:
        options = msgspec.convert(request.options or {}, Options)
    except msgspec.ValidationError as error:
        raise OptionRefused(f"The tunnel's options cannot be accepted: {error}.") from None
    if request.protect is not None:
        if options.protect not in (None, request.protect):
            raise OptionRefused("The request has two passwords, 'protect' of its own and one in its options; send one.")
        options = msgspec.structs.replace(options, protect=request.protect)
    unfit = [name for name in options.names if request.kind == "tcp" and name not in FOR_TCP]
    if unfit:
        raise OptionRefused(f"A TCP tunnel cannot have the option {unfit[0]}, which needs HTTP; leave it out.")
    return options


def missing(asked: Options, reply: ControlReply) -> list[str]:
    """Return the names of the options in ``asked`` that ``reply`` does not confirm."""
    return [name for name in asked.names if name not in (reply.options or ())]
