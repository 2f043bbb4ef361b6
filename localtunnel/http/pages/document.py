"""One short page in three forms: HTML for browsers, JSON for programs, text for
terminals.

The HTML is self-contained: it loads nothing and runs nothing, and its
Content-Security-Policy enforces that.
"""

import base64
import hashlib
import json
from html import escape

from msgspec import Struct

from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages.accept import choose
from localtunnel.http.pages.render import render

_TEXT, _JSON, _HTML = "text/plain", "application/json", "text/html"
_OFFERED = (_TEXT, _JSON, _HTML)
"""In this order for a visitor without a preference: curl and most libraries send
``*/*``, and browsers ask for HTML."""

_STYLE = """
:root { color-scheme: light dark; --back: #f4f5f7; --card: #fff; --ink: #1c2330; --soft: #5d6777; --line: #dfe3e9;
  --mark: #0b5cad; --code: #eef1f5; }
@media (prefers-color-scheme: dark) {
  :root { --back: #12161d; --card: #1a2029; --ink: #e6eaf0; --soft: #9aa5b5; --line: #2c3542; --mark: #7db7f5;
    --code: #11161d; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--back);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { width: 100%; max-width: 38rem; padding: 2.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; overflow-wrap: anywhere; }
.status { margin: 0; color: var(--mark); font-size: .9rem; font-weight: 600; }
h1 { margin: .2rem 0 .75rem; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 1.75rem 0 .25rem; font-size: 1rem; }
p { margin: 0; }
section p { color: var(--soft); }
pre { margin: .75rem 0 0; padding: .75rem 1rem; background: var(--code); border: 1px solid var(--line);
  border-radius: 8px; white-space: pre-wrap; }
code { font: .9rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
button { margin-top: 1.5rem; padding: .6rem 1.4rem; border: 1px solid var(--mark); border-radius: 8px;
  background: var(--card); color: var(--mark); font: inherit; font-weight: 600; cursor: pointer; }
footer { margin-top: 2rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
footer code { font-size: .85rem; }
@media (max-width: 30rem) { main { padding: 1.5rem; } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action "
_NO_FORM = _POLICY + "'none'"
_OWN_FORM = _POLICY + "'self'; frame-ancestors 'none'"
"""For a page with a button: no other page may frame it, and trick a visitor into the
click."""


class Hint(Struct, frozen=True):
    """Advice for one kind of reader, with a command to copy or an empty text."""

    reader: str
    advice: str
    command: str = ""


class Button(Struct, frozen=True):
    """A button in HTML: its label, and where on the same host it sends an empty
    form.
    """

    label: str
    action: str


class Document(Struct, frozen=True):
    """What a page says, in plain text; ``code`` is empty if nothing went wrong."""

    status: int
    code: str
    title: str
    message: str
    hints: tuple[Hint, ...] = ()
    button: Button | None = None

    def answer(self, accept: str, *, head_only: bool, fields: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Return the whole response, in the form that ``accept`` asks for, with
        ``fields`` added to its head.
        """
        media = choose(accept, _OFFERED)
        form = {_HTML: self.as_html, _JSON: self.as_json, _TEXT: self.as_text}[media]
        head = [
            ("Content-Type", media if media == _JSON else f"{media}; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if media == _HTML:
            head.append(("Content-Security-Policy", _NO_FORM if self.button is None else _OWN_FORM))
        if self.code:
            head.append(("X-Localtunnel-Error", self.code))
        # A lone surrogate in a message must not make the error page fail.
        return render(self.status, [*head, *fields], form().encode("utf-8", "replace"), head_only=head_only)

    def answer_to(self, head: RequestHead | None, fields: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Return the response to ``head``, None for a request that could not be
        read.
        """
        if head is None:
            return self.answer("", head_only=False, fields=fields)
        return self.answer(head.accept, head_only=head.method == "HEAD", fields=fields)

    def as_text(self) -> str:
        """Return the page for a terminal, with ``?`` for every control character."""
        parts = [f"{self.status} {self.title}" if self.code else self.title, self.message]
        for hint in self.hints:
            parts.append(f"{hint.reader}: {hint.advice}")
            if hint.command:
                parts.append(f"    {hint.command}")
        if self.code:
            parts.append(f"({self.code})")
        return "\n\n".join("".join(c if c.isprintable() else "?" for c in part) for part in parts) + "\n"

    def as_json(self) -> str:
        """Return one line of JSON: error, message and status, or message and
        command.
        """
        if self.code:
            return json.dumps({"error": self.code, "message": self.message, "status": self.status}) + "\n"
        return json.dumps({"message": self.message, "command": self.hints[0].command if self.hints else ""}) + "\n"

    def as_html(self) -> str:
        """Return the page for a browser, everything in it escaped."""
        # A page with a question is not an error to its reader; the status is for
        # programs.
        status = f'<p class="status">{self.status}</p>\n' if self.code and self.button is None else ""
        code = f" · <code>{escape(self.code)}</code>" if self.code else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"{status}<h1>{escape(self.title)}</h1>\n<p>{escape(self.message)}</p>\n"
            f"{_form(self.button)}{''.join(map(_section, self.hints))}"
            f"<footer>localtunnel{code}</footer>\n</main>\n</body>\n</html>\n"
        )


def _form(button: Button | None) -> str:
    if button is None:
        return ""
    action, label = escape(button.action), escape(button.label)
    return f'<form method="post" action="{action}">\n<button type="submit">{label}</button>\n</form>\n'


def _section(hint: Hint) -> str:
    command = f"<pre><code>{escape(hint.command)}</code></pre>\n" if hint.command else ""
    return f"<section>\n<h2>{escape(hint.reader)}</h2>\n<p>{escape(hint.advice)}</p>\n{command}</section>\n"
