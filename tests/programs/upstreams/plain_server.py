"""Python's http.server, one request at a time, on the port and in the protocol version that the arguments say.

With HTTP/1.1 it keeps a connection after its answer, and takes no other until that one is closed.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Echo(BaseHTTPRequestHandler):
    """Says what was asked for, and gives the body back."""

    def answer(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = f"{self.command} {self.path.rpartition('/')[2]}\n".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer


Echo.protocol_version = sys.argv[2]
HTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
