"""A browser in front of the tunnel, which resolves ``*.localhost`` by itself and opens several connections a page."""

from pathlib import Path

import pytest
from beside import Nginx, rendered_page
from harness import ClientProcess, ServerProcess

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
