"""localtunnel.http.pages.own: the landing page and /meta/*."""

import html
import json

from harness.pages import HTML, JSON, every_form, read, request

from localtunnel.http.pages import own


@every_form
def test_landing(accept: str) -> None:
    response, body = read(own.landing("example.com", request(accept, host="example.com", port=8000)))
    assert response.status == 200
    assert response.getheader("X-Localtunnel-Error") is None
    assert "lt-client --server=example.com:8000 8080" in body
    assert "NAME.example.com:8000" in body


def test_landing_on_the_default_port_names_none() -> None:
    _, body = read(own.landing("example.com", request(host="example.com", port=None)))
    assert "lt-client --server=example.com 8080" in body


def test_landing_in_json() -> None:
    _, body = read(own.landing("localhost", request(JSON)))
    assert json.loads(body)["command"] == "lt-client --server=localhost:8000 8080"


def test_meta_answer() -> None:
    response, body = read(own.answer("8001\n", "text/plain; charset=utf-8", False))
    assert (response.status, body) == (200, "8001\n")
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert response.getheader("Cache-Control") == "no-store"
    assert read(own.answer("8001\n", "text/plain", True), "HEAD")[1] == ""


@every_form
def test_meta_not_found(accept: str) -> None:
    response, body = read(own.not_found(request(accept, target="/meta/nothing?x")))
    assert response.status == 404
    assert response.getheader("X-Localtunnel-Error") == "not_found"
    assert "no page at /meta/nothing here" in body
    assert "localhost:8000" in body


def test_the_host_that_came_is_escaped() -> None:
    host = "<script>&'\""
    _, body = read(own.not_found(request(HTML, host=host, port=None)))
    assert html.escape(host) in body
    assert "<script>" not in body


@every_form
def test_meta_method_not_allowed(accept: str) -> None:
    response, body = read(own.method_not_allowed(request(accept, "POST")))
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD"
    assert "method POST is not allowed" in body
