"""Answers of our own: error pages, the landing page and the warning, as HTML, JSON or
text.

Everything that is put into a page is escaped in ``document``. No room but ``message``
is used here: a page depends on the request and the error, never on a tunnel's options.
"""
