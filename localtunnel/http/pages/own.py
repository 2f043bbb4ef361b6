"""What the server answers on its own host: the landing page and ``/meta/*``."""

from http import HTTPStatus

from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages.document import Document, Hint
from localtunnel.http.pages.render import render


def landing(domain: str, head: RequestHead) -> bytes:
    """Return the page of the bare domain: what this server is, and how to connect to
    it.
    """
    command = f"lt-client --server={with_port(domain, head.port)} 8080"
    advice = "With a web server running on port 8080 of your computer, give it a public address like this:"
    message = f"This is a localtunnel server. Tunnels have an address of the form NAME.{with_port(domain, head.port)}."
    hints: tuple[Hint, ...] = (Hint("Open a tunnel", advice, command),)
    if head.host != domain:
        hints += (of_a_proxy(head),)
    return Document(HTTPStatus.OK, "", "localtunnel", message, hints).answer_to(head)


def answer(body: str, content_type: str, head_only: bool) -> bytes:
    """Return the answer of a ``/meta/`` page: ``content_type`` is the whole
    Content-Type.
    """
    fields = [
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return render(HTTPStatus.OK, fields, body.encode("utf-8"), head_only=head_only)


def not_found(head: RequestHead) -> bytes:
    """Return the 404 for a path of the bare domain that is not served."""
    message = f"There is no page at {head.path} here. The request was for the host {head.addressed}, which is this"
    message += " server itself and not a tunnel."
    hint = Hint("What there is", "This server answers /meta/version, /meta/backend and /meta/metrics.")
    page = Document(HTTPStatus.NOT_FOUND, "not_found", "No such page", message, (hint, of_a_proxy(head)))
    return page.answer_to(head)


def method_not_allowed(head: RequestHead) -> bytes:
    """Return the 405 for another method than GET or HEAD on a page of the server's
    own.
    """
    message = f"The method {head.method} is not allowed here; use GET or HEAD."
    page = Document(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", message)
    return page.answer_to(head, (("Allow", "GET, HEAD"),))


def of_a_proxy(head: RequestHead) -> Hint:
    """Return what to do about a proxy that replaces the visitor's Host field, as nginx
    does.
    """
    advice = (
        f"The Host field of the request names {head.addressed}, and a tunnel is found by nothing else. A reverse proxy"
        " in front of this server has to pass on the field that the visitor sent. Caddy and haproxy do so anyway;"
        " Apache does with ProxyPreserveHost On, and nginx with:"
    )
    return Hint("If you came by the address of a tunnel", advice, "proxy_set_header Host $host;")


def with_port(domain: str, port: int | None) -> str:
    """Return ``domain`` with the port under which a visitor has reached it."""
    return domain if port is None else f"{domain}:{port}"
