"""The versions of LTP that are spoken here, and what each of them has.

Other code asks a version for what it has, by name. Only the client's fallback compares
versions, so that a third one changes nothing but this module.
"""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Version:
    """One version of the protocol; there is one object for each, so that identity is
    equality."""

    header: bytes
    """The first bytes of a connection that speaks it."""

    acknowledges: bool = True
    """Whether a client answers an assignment, so that a connection that ends after that
    was not a dead one."""

    has_sessions: bool = True
    """Whether a session proves that a connection belongs to a tunnel; else client
    string and address have to."""

    has_tokens: bool = True
    """Whether a client can log in by token."""

    has_final_codes: bool = True
    """Whether errors have codes for what another try cannot mend; any other code makes
    a client try again."""

    leases: bool = True
    """Whether a name is kept for a while after its client has gone, unless the client
    gives it up."""

    speaks_freely: bool = True
    """Whether both sides say on an open control connection what they like and when;
    else it has pings and pongs."""

    speaks_tls: bool = True
    """Whether it may be spoken over TLS."""

    def __str__(self) -> str:
        return self.header.decode()


LTP_0_2 = Version(
    header=b"LTP/0.2",
    acknowledges=False,
    has_sessions=False,
    has_tokens=False,
    has_final_codes=False,
    leases=False,
    speaks_freely=False,
    speaks_tls=False,
)
LTP_0_3 = Version(header=b"LTP/0.3")

VERSIONS = (LTP_0_2, LTP_0_3)
"""The oldest first."""
