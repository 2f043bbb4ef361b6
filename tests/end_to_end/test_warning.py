"""The warning page before a tunnel of a real server: a browser is asked once, a program never."""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import websocket
from harness import CAP, ClientProcess, ServerProcess, answer_hello, fetch, request, running_upstream
from harness.beside import Nginx, curl, end_session
from harness.installed import installed
from harness.web import read_head

OPEN = "warning_page = true\n"
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Browser:
    """A chromium that is told what to do through its debugger: a person's eyes and one finger."""

    def __init__(self, directory: Path) -> None:
        profile = directory / "profile"
        options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-proxy-server --no-first-run"
        more = f"--disable-background-networking --remote-debugging-port=0 --user-data-dir={profile}"
        self._process = subprocess.Popen(
            [installed("chromium"), *options.split(), *more.split(), "about:blank"],
            env={**os.environ, "HOME": str(directory)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        try:
            self._socket = self._debugger(profile)
        except BaseException:
            self.close()
            raise

    def _debugger(self, profile: Path) -> websocket.WebSocket:
        """Connect to the debugger of the one page that there is."""
        port = self._wait(lambda: _first_line(profile / "DevToolsActivePort"))
        targets = json.loads(curl(f"http://127.0.0.1:{port}/json").stdout)
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        return websocket.create_connection(address, timeout=CAP, suppress_origin=True, http_no_proxy=["*"])

    def go(self, url: str) -> None:
        """Open ``url`` as if it had been typed."""
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Return the value of a script in the page."""
        return self._call("Runtime.evaluate", expression=script)["result"].get("value")

    def wait_for(self, text: str) -> str:
        """Return what the page shows, once it has ``text`` in it."""

        def look() -> str:
            shown = self.evaluate("document.body ? document.body.innerText : ''") or ""
            return shown if text in shown else ""

        return str(self._wait(look))

    def close(self) -> None:
        """End it, with all its processes."""
        end_session(self._process)

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                return message["result"]

    def _wait(self, look: Any) -> Any:
        give_up = time.monotonic() + 3 * CAP
        while not (found := look()):
            assert time.monotonic() < give_up, "the browser did not get there"
            time.sleep(0.05)
        return found


def _first_line(path: Path) -> str:
    """Return the first line of a file that is being written, once it is whole."""
    line, end, _ = path.read_text().partition("\n") if path.exists() else ("", "", "")
    return line if end else ""


def test_a_program_is_served_and_a_browser_asked() -> None:
    with (
        running_upstream(answer_hello) as target,
        ServerProcess(config=OPEN) as server,
        ClientProcess(target, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        assert fetch(server.frontend, request("demo.localhost")).status == 200
        asked = fetch(server.frontend, request("demo.localhost", fields=f"Accept: {CHROMIUM}\r\n"))
        assert (asked.status, asked.fields["x-localtunnel-error"]) == (403, "warning_page")
        # The server's own pages, and names that nobody has, need no warning.
        assert fetch(server.frontend, request("localhost", fields=f"Accept: {CHROMIUM}\r\n")).status == 200
        assert fetch(server.frontend, request("nobody.localhost", fields=f"Accept: {CHROMIUM}\r\n")).status == 404
    with (
        running_upstream(answer_hello) as target,
        ServerProcess() as server,
        ClientProcess(target, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        assert fetch(server.frontend, request("demo.localhost", fields=f"Accept: {CHROMIUM}\r\n")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_form_does_not_get_past_it(method: str) -> None:
    """Nothing of it reaches the tunnel, however much there is of it."""
    seen: list[bytes] = []

    def note(sock: Any) -> None:
        seen.append(read_head(sock))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    with (
        running_upstream(note) as target,
        ServerProcess(config=OPEN) as server,
        ClientProcess(target, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        form = "Origin: http://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        for fields in (f"Accept: {CHROMIUM}\r\n", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: fencedframe\r\n"):
            asked = fetch(server.frontend, request("demo.localhost", "/pay", method, form + fields, b"a=b&" * 50_000))
            assert (asked.status, asked.fields["x-localtunnel-error"]) == (403, "warning_page")
        assert fetch(server.frontend, request("demo.localhost", "/pay", method, form, b"a=b")).status == 200
    assert [head.partition(b" HTTP/")[0] for head in seen] == [f"{method} /pay".encode()]


@pytest.mark.slow
def test_another_site_s_form_is_stopped_in_a_browser(tmp_path: Path) -> None:
    with (
        Nginx(tmp_path / "nginx") as nginx,
        ServerProcess(config=OPEN) as server,
        ClientProcess(nginx.port, server=server.frontend, name="demo") as client,
    ):
        url = client.wait_until_open()
        (nginx.root / "page.html").write_text("<!doctype html><title>page</title><p>hello from page")
        (nginx.root / "evil.html").write_text(
            f'<!doctype html><form method="post" action="{url}/page.html"><input name="a" value="b"></form>'
            "<script>document.forms[0].submit()</script>"
        )
        browser = Browser(tmp_path)
        try:
            browser.go(f"http://127.0.0.1:{nginx.port}/evil.html")
            browser.wait_for("Your form was not sent")
            browser.evaluate("document.querySelector('button').click()")
            browser.wait_for("hello from page")
        finally:
            browser.close()


@pytest.mark.slow
def test_somebody_presses_the_button(tmp_path: Path) -> None:
    with (
        Nginx(tmp_path / "nginx") as nginx,
        ServerProcess(config=OPEN) as server,
        ClientProcess(nginx.port, server=server.frontend, name="demo") as client,
    ):
        url = client.wait_until_open()
        for name in ("page", "another"):
            (nginx.root / f"{name}.html").write_text(f"<!doctype html><title>{name}</title><p>hello from {name}")
        browser = Browser(tmp_path)
        try:
            browser.go(f"{url}/page.html?x=1")
            assert "Do not enter a password" in browser.wait_for("You are about to visit a tunnel")
            assert browser.evaluate("document.cookie") == ""
            browser.evaluate("document.querySelector('button').click()")
            browser.wait_for("hello from page")
            assert browser.evaluate("location.href") == f"{url}/page.html?x=1"
            browser.go(f"{url}/another.html")
            browser.wait_for("hello from another")
            assert browser.evaluate("location.href") == f"{url}/another.html"
        finally:
            browser.close()
