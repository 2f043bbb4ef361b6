"""The application for Flask's development server, and for any other of WSGI."""

from flask import Flask, Response, request

METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]

app = Flask(__name__)


@app.route("/echo/<name>", methods=METHODS)
def echo(name: str) -> Response:
    """Read the body, and answer."""
    request.get_data()
    return answer(name)


@app.route("/ignore/<name>", methods=METHODS)
def ignore(name: str) -> Response:
    """Answer without a look at the body."""
    return answer(name)


@app.route("/empty/<name>", methods=METHODS)
def empty(name: str) -> Response:
    """Answer with a status that has no body, and with one."""
    return answer(name, 204)


@app.route("/unchanged/<name>", methods=METHODS)
def unchanged(name: str) -> Response:
    """Do the same with another."""
    return answer(name, 304)


def answer(name: str, status: int = 200) -> Response:
    """Return what every server of these tests answers."""
    return Response(f"{request.method} {name}\n", status, mimetype="text/plain")
