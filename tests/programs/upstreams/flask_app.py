"""A Flask application that does what web applications do, for the development server and for gunicorn."""

import queue
from collections import Counter, defaultdict
from collections.abc import Iterator

from flask import Flask, Response, request

METHODS = ["GET", "POST", "PUT", "DELETE"]

app = Flask(__name__)
app.config["MAX_COOKIE_SIZE"] = 0
times: Counter[str] = Counter()
channels: dict[str, queue.Queue[bytes]] = defaultdict(queue.Queue)


@app.route("/echo/<name>", methods=METHODS)
def echo(name: str) -> Response:
    """Say what was asked for, and give the body back."""
    return Response(f"{request.method} {name}\n".encode() + request.get_data(), mimetype="application/octet-stream")


@app.post("/once/<name>")
def once(name: str) -> str:
    """Say how often this name has come."""
    times[name] += 1
    return str(times[name])


@app.get("/field/<name>")
def field(name: str) -> Response:
    """Give a field's value back, and every cookie as a cookie."""
    response = Response(request.headers.get(name, ""), mimetype="text/plain")
    for key, value in request.cookies.items():
        response.set_cookie(key, value)
    return response


@app.put("/channel/<name>")
def tell(name: str) -> str:
    """Wake whoever waits for the channel; an empty body ends its stream."""
    channels[name].put(request.get_data())
    return "told\n"


@app.get("/channel/<name>")
def wait(name: str) -> bytes:
    """Answer once there is something to say: a long poll."""
    return channels[name].get()


@app.get("/channel/<name>/events")
def events(name: str) -> Response:
    """Send every message as an event when it comes (server-sent events)."""

    def stream() -> Iterator[bytes]:
        while message := channels[name].get():
            yield b"data: %b\n\n" % message

    return Response(stream(), mimetype="text/event-stream")


@app.get("/page")
def page() -> str:
    """Return a page of 50 resources, of which a script says how many came; each takes a moment."""
    images = "".join(f'<img src="/image/{number}" alt="">' for number in range(50))
    return f"""<!DOCTYPE html><title>page</title>{images}<p id="result">not yet</p><script>
addEventListener("load", () => {{
  const widths = [...document.images].map((image) => image.naturalWidth);
  const whole = widths.filter((width, number) => width === number + 1).length;
  document.getElementById("result").textContent = `${{whole}} of ${{widths.length}}`;
}});
</script>"""


@app.get("/image/<int:number>")
def image(number: int) -> Response:
    """Return a picture that is as wide as its number and one more."""
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" width="{number + 1}" height="7"/>'
    return Response(picture, mimetype="image/svg+xml", headers={"Cache-Control": "no-store"})
