"""One message on the wire: heads, fields, framing and bodies, read strictly.

``request`` and ``response`` are the heads, ``body`` finds the end of what follows, and
``refusal`` says why a message is refused. ``answer`` is all that comes for one request.

What goes on, to whom, and what a tunnel's options make of it is not known here.
"""
