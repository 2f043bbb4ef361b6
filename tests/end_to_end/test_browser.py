"""A browser in front of the tunnel, which resolves ``*.localhost`` by itself and opens several connections a page."""

from pathlib import Path

import pytest
from gevent import socket
from harness import (
    ClientProcess,
    ServerProcess,
    frontend,
    read_head,
    running_client,
    running_server,
    running_upstream,
)
from harness.beside import Nginx, rendered_page
from harness.link import Link

IMAGES = 12

PAGE = """\
<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>loading</title>
<link rel="stylesheet" href="/style.css"><script src="/script.js" defer></script></head>
<body><h1 id="heading">A page</h1>{images}<p id="result">not yet</p></body></html>
"""

SCRIPT = """\
addEventListener("load", async () => {
  const loaded = [...document.images].filter((image) => image.naturalWidth === 7).length;
  const colour = getComputedStyle(document.getElementById("heading")).color;
  const data = await (await fetch("/data.json")).json();
  document.getElementById("result").textContent = `${loaded} images, ${colour}, ${data.text}, ${location.host}`;
});
"""


@pytest.mark.slow
def test_page_with_its_assets(tmp_path: Path) -> None:
    with (
        Nginx(tmp_path / "nginx") as nginx,
        ServerProcess() as server,
        ClientProcess(nginx.port, server=server.frontend, name="demo") as client,
    ):
        images = "".join(f'<img src="/image-{number}.svg" alt="">' for number in range(IMAGES))
        (nginx.root / "index.html").write_text(PAGE.format(images=images))
        (nginx.root / "style.css").write_text("#heading { color: rgb(1, 2, 3) }")
        (nginx.root / "script.js").write_text(SCRIPT)
        (nginx.root / "data.json").write_text('{"text": "fetched"}')
        for number in range(IMAGES):
            picture = '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>'
            (nginx.root / f"image-{number}.svg").write_text(picture)
        url = client.wait_until_open()

        page = rendered_page(f"{url}/", tmp_path)

    assert url == f"http://demo.localhost:{server.frontend[1]}"
    assert f'<p id="result">{IMAGES} images, rgb(1, 2, 3), fetched, {url.removeprefix("http://")}</p>' in page


MEGABYTE = 1 << 20
UPLOAD = 12 * MEGABYTE
RATE = 3.0 * MEGABYTE
"""Bytes a second that the visitor's link takes: an upload needs four seconds."""

UPLOADS = f"""\
<!DOCTYPE html><title>uploads</title><p id="result">not yet</p><script>
addEventListener("load", async () => {{
  const told = [];
  for (const kind of ["refused", "moved", "accepted"]) {{
    try {{
      const response = await fetch(`/${{kind}}`, {{method: "POST", body: new Uint8Array({UPLOAD})}});
      told.push(`${{response.status}} ${{await response.text()}}`);
    }} catch (error) {{
      told.push(`${{kind}}: ${{error}}`);
    }}
  }}
  document.getElementById("result").textContent = told.join(", ");
}});
</script>"""

ANSWERS = {
    "GET /": ("200 OK", UPLOADS),
    "GET /elsewhere": ("200 OK", "elsewhere"),
    "POST /refused": ("413 Content Too Large", "too large"),
    "POST /moved": ("302 Found\r\nLocation: /elsewhere", ""),
    "POST /accepted": ("200 OK", "accepted"),
}


def answer_without_reading(sock: socket.socket) -> None:
    """Answer what the head says, and close, whatever of a body there is."""
    status, body = ANSWERS.get(" ".join(read_head(sock).decode("latin-1").split()[:2]), ("404 Not Found", ""))
    fields = f"Connection: close\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
    sock.sendall(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n{body}".encode())


@pytest.mark.slow
@pytest.mark.parametrize("edge", ["http", "join"])
def test_an_answer_that_comes_before_its_upload_has_ended_is_seen(edge: str, tmp_path: Path) -> None:
    """A browser sends all of its request before it reads the answer, and takes a reset in between for a failure."""
    with (
        running_upstream(answer_without_reading) as port,
        running_server(edge=edge) as server,
        running_client(frontend(server), port, name="demo"),
        Link(frontend(server), rate=RATE) as link,
    ):
        page = rendered_page(f"http://demo.localhost:{link.port}/", tmp_path)

    assert '<p id="result">413 too large, 200 elsewhere, 200 accepted</p>' in page
