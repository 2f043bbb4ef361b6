"""Every error that localtunnel raises on purpose, each with a stable ``code``.

LocaltunnelError
├── UsageError                  usage                 the command line was not understood
├── ConfigError                 config                a key, a type or a value in a file or the environment
│   ├── AddressError            address               an address that cannot be parsed
│   └── TokenInvalid            invalid_token         a text that is not a token
├── ProtocolError               protocol_error        the peer did not speak LTP as PROTOCOL.md has it
│   ├── HeaderError             not_ltp               the first bytes are not an LTP header
│   ├── VersionError            version_mismatch      LTP, but a version that is not spoken here
│   ├── FrameError              bad_frame             a length or an encoding that no frame may have
│   ├── MessageError            bad_message           a well-framed object that is not a known message
│   └── Flooded                 flooded               more messages at a time than either side may send
├── RefusedError                refused               the server answered with an error message
│   ├── NameUnavailable         unavailable           another client has the name
│   ├── NameInvalid             invalid_name          not a name that a tunnel may have
│   ├── PortRefused             port_refused          no such public port for a TCP tunnel
│   ├── OptionRefused           option_refused        an option of the tunnel is wrong, or cannot be kept
│   ├── ClientReplaced          replaced              another run of the client took the session over
│   ├── ClientKicked            kicked                the server's operator ended the tunnel
│   ├── TunnelExpired           expired               a proxy request for a tunnel that is not there
│   ├── AuthError               (the subclass's)      the server wants a token, or does not take this one
│   │   ├── AuthRequired        auth_required         the server requires a token
│   │   ├── AuthFailed          auth_failed           the token is unknown, wrong or revoked
│   │   ├── TokenExpired        token_expired         the token has expired
│   │   ├── AuthThrottled       auth_throttled        too many failures came from this address; try later
│   │   └── TlsRequired         tls_required          a token is never used without encryption
│   ├── NotAllowed              not_allowed           the token does not cover this name or kind of tunnel
│   ├── RequestInvalid          invalid_request       the server cannot read what the client asks for
│   ├── LimitReached            limit_reached         a limit of the token, the address or the server
│   └── RemoteFailure           exception             the server failed, and said so
├── TrustError                  (the subclass's)      the server may not be the one that the user named
│   ├── KeyChanged              key_changed           its key is not the known one
│   ├── CertificateUntrusted    certificate           its certificate is not valid for this name at this time
│   │   └── CertificateUnknown  certificate_unknown   no authority known to this machine has signed it
│   └── DowngradeRefused        downgrade             a server known to encrypt was to be used without
├── StorageError                storage               the server cannot record on its disk what it promises
├── OutputError                 output                stdout cannot be written
├── NetworkError                network
│   ├── Unreachable             unreachable           nothing answers at the address, or the name does not resolve
│   │   └── ConnectionRefused   connection_refused    the machine answers, but nothing listens on the port
│   ├── ConnectionClosed        closed                the peer closed or reset the connection
│   ├── TlsError                tls                   TLS failed, or is not spoken the way it is here
│   ├── DeadlineExceeded        deadline              the total time allowed has passed
│   └── ListenError             cannot_listen         the address is taken, or not of this machine
└── VisitorError                (the subclass's)      what the server itself answers a visitor
    ├── NoHost                  no_host               400
    ├── BadRequest              bad_request           400
    ├── RequestTimeout          request_timeout       408
    ├── Unauthorized            unauthorized          401
    ├── Forbidden               forbidden             403
    ├── TooManyRequests         too_many_requests     429
    ├── TunnelNotFound          tunnel_not_found      404
    ├── ClientOffline           client_offline        503
    ├── PoolExhausted           pool_exhausted        503
    ├── ServerFull              server_full           503
    └── UpstreamError
        ├── UpstreamRefused     upstream_refused      502
        ├── UpstreamUnreachable upstream_unreachable  502
        ├── UpstreamClosed      upstream_closed       502
        ├── UpstreamInvalid     upstream_invalid      502
        └── UpstreamTimeout     upstream_timeout      504

Each message is a whole sentence for its reader: what went wrong, then what to do about
it. Codes are public: they stand in logs, in ``X-Localtunnel-Error`` and in ``--json``
output.

Import errors from here. The modules are ``root``, ``local`` (this machine), ``peers``
(connections and the other side of them), ``refusals`` (what a server answers a client)
and ``visitors``.
"""

from localtunnel.errors.local import AddressError as AddressError
from localtunnel.errors.local import ConfigError as ConfigError
from localtunnel.errors.local import OutputError as OutputError
from localtunnel.errors.local import StorageError as StorageError
from localtunnel.errors.local import TokenInvalid as TokenInvalid
from localtunnel.errors.local import UsageError as UsageError
from localtunnel.errors.peers import CertificateUnknown as CertificateUnknown
from localtunnel.errors.peers import CertificateUntrusted as CertificateUntrusted
from localtunnel.errors.peers import ConnectionClosed as ConnectionClosed
from localtunnel.errors.peers import ConnectionRefused as ConnectionRefused
from localtunnel.errors.peers import DeadlineExceeded as DeadlineExceeded
from localtunnel.errors.peers import DowngradeRefused as DowngradeRefused
from localtunnel.errors.peers import Flooded as Flooded
from localtunnel.errors.peers import FrameError as FrameError
from localtunnel.errors.peers import HeaderError as HeaderError
from localtunnel.errors.peers import KeyChanged as KeyChanged
from localtunnel.errors.peers import ListenError as ListenError
from localtunnel.errors.peers import MessageError as MessageError
from localtunnel.errors.peers import NetworkError as NetworkError
from localtunnel.errors.peers import ProtocolError as ProtocolError
from localtunnel.errors.peers import TlsError as TlsError
from localtunnel.errors.peers import TrustError as TrustError
from localtunnel.errors.peers import Unreachable as Unreachable
from localtunnel.errors.peers import VersionError as VersionError
from localtunnel.errors.refusals import AuthError as AuthError
from localtunnel.errors.refusals import AuthFailed as AuthFailed
from localtunnel.errors.refusals import AuthRequired as AuthRequired
from localtunnel.errors.refusals import AuthThrottled as AuthThrottled
from localtunnel.errors.refusals import ClientKicked as ClientKicked
from localtunnel.errors.refusals import ClientReplaced as ClientReplaced
from localtunnel.errors.refusals import LimitReached as LimitReached
from localtunnel.errors.refusals import NameInvalid as NameInvalid
from localtunnel.errors.refusals import NameUnavailable as NameUnavailable
from localtunnel.errors.refusals import NotAllowed as NotAllowed
from localtunnel.errors.refusals import OptionRefused as OptionRefused
from localtunnel.errors.refusals import PortRefused as PortRefused
from localtunnel.errors.refusals import RefusedError as RefusedError
from localtunnel.errors.refusals import RemoteFailure as RemoteFailure
from localtunnel.errors.refusals import RequestInvalid as RequestInvalid
from localtunnel.errors.refusals import TlsRequired as TlsRequired
from localtunnel.errors.refusals import TokenExpired as TokenExpired
from localtunnel.errors.refusals import TunnelExpired as TunnelExpired
from localtunnel.errors.root import LocaltunnelError as LocaltunnelError
from localtunnel.errors.visitors import BadRequest as BadRequest
from localtunnel.errors.visitors import ClientOffline as ClientOffline
from localtunnel.errors.visitors import Forbidden as Forbidden
from localtunnel.errors.visitors import NoHost as NoHost
from localtunnel.errors.visitors import PoolExhausted as PoolExhausted
from localtunnel.errors.visitors import RequestTimeout as RequestTimeout
from localtunnel.errors.visitors import ServerFull as ServerFull
from localtunnel.errors.visitors import TooManyRequests as TooManyRequests
from localtunnel.errors.visitors import TunnelNotFound as TunnelNotFound
from localtunnel.errors.visitors import Unauthorized as Unauthorized
from localtunnel.errors.visitors import UpstreamClosed as UpstreamClosed
from localtunnel.errors.visitors import UpstreamError as UpstreamError
from localtunnel.errors.visitors import UpstreamInvalid as UpstreamInvalid
from localtunnel.errors.visitors import UpstreamRefused as UpstreamRefused
from localtunnel.errors.visitors import UpstreamTimeout as UpstreamTimeout
from localtunnel.errors.visitors import UpstreamUnreachable as UpstreamUnreachable
from localtunnel.errors.visitors import VisitorError as VisitorError
from localtunnel.errors.visitors import upstream_error as upstream_error
