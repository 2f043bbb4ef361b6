"""What ``--host-header`` is for: programs that hold Host and Origin against each other, and refuse what differs."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from harness import (
    CAP,
    ClientProcess,
    ServerProcess,
    connect,
    fetch,
    read_head,
    request,
    running_upstream,
    web_programs,
)
from harness.web import Response


class Visitor:
    """A browser, as far as Django's forms go: it keeps cookies, and says where a form comes from."""

    def __init__(self, server: ServerProcess, host: str) -> None:
        self._server = server
        self._host = f"{host}:{server.frontend[1]}"
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Response:
        return self._ask(path, "GET")

    def post(self, path: str, origin: str = "", **form: str) -> Response:
        origin = origin or f"http://{self._host}"
        fields = f"Origin: {origin}\r\nReferer: {origin}{path}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        return self._ask(path, "POST", fields, urlencode(form).encode())

    def _ask(self, path: str, method: str, fields: str = "", body: bytes = b"") -> Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        fields += f"Connection: close\r\nCookie: {cookies}\r\n"
        raw = request(self._host, path, method, fields, body)
        answer = fetch(self._server.frontend, raw, cap=3 * CAP)
        for name, value in re.findall(r"(\w+)=([^;]*)", answer.fields.get("set-cookie", "").partition(";")[0] + ";"):
            self._cookies[name] = value
        return answer


def token_in(page: Response) -> str:
    """Return what Django wants to see again with a form."""
    found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert found is not None, page
    return found[1].decode()


@pytest.mark.slow
def test_somebody_logs_in_to_django_s_admin(tmp_path: Path) -> None:
    with (
        web_programs.django(tmp_path) as port,
        ServerProcess() as server,
        ClientProcess(port, "--host-header=rewrite", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        login = "/admin/login/?next=/admin/"
        ann = {"username": "ann", "password": "secret"}
        visitor = Visitor(server, "demo.localhost")
        token = token_in(visitor.get(login))
        for origin in ("http://evil.example", "http://other.localhost", "null"):
            assert visitor.post(login, origin=origin, csrfmiddlewaretoken=token, **ann).status == 403
        answer = visitor.post(login, csrfmiddlewaretoken=token, **ann)
        assert (answer.status, urlsplit(answer.fields["location"]).path) == (302, "/admin/")
        page = visitor.get("/admin/")
        assert page.status == 200
        assert b"Site administration" in page.body


def dev_server(sock: Any) -> None:
    """Grant a WebSocket as webpack-dev-server 5 does: Host has to be local, and Origin to name the same host."""
    head = read_head(sock).decode("latin-1").lower()
    host = re.search(r"\r\nhost: ([^:\r]*)", head)
    origin = re.search(r"\r\norigin: http://([^:\r]*)", head)
    is_own = host is not None and origin is not None and host[1] == origin[1] == "localhost"
    key = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    switch = f"101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}"
    sock.sendall(f"HTTP/1.1 {switch if is_own else '403 Forbidden'}\r\nContent-Length: 0\r\n\r\n".encode())
    if is_own:
        sock.sendall(b"\x81\x02ok")
        sock.recv(1)


@pytest.mark.parametrize(
    ("option", "origin", "status"),
    [
        ("rewrite", "http://demo.localhost", 101),
        ("localhost:3000", "http://demo.localhost", 101),
        ("preserve", "http://demo.localhost", 403),
        ("rewrite", "http://other.localhost", 403),
        ("rewrite", "https://demo.localhost", 403),
    ],
)
def test_a_development_server_takes_its_own_page_s_websocket(option: str, origin: str, status: int) -> None:
    with (
        running_upstream(dev_server) as target,
        ServerProcess() as server,
        ClientProcess(target, f"--host-header={option}", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        port = server.frontend[1]
        asked = request(
            f"demo.localhost:{port}",
            fields="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}:{port}\r\n",
        )
        with connect(server.frontend, cap=CAP) as sock:
            sock.sendall(asked)
            assert int(read_head(sock).split()[1]) == status
