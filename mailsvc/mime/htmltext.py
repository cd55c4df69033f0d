"""HTML to plain text, to find the reply in a mail without a text part.

Not a renderer: it keeps the words, the paragraphs and the depth of quotation.  Linear in its input.
"""

from __future__ import annotations

import re
from html import unescape

#: A tag, a comment or a declaration begins.
_MARKUP = re.compile(r"<(?:(!--)|(/?)([a-zA-Z][a-zA-Z0-9]{0,20})|[!?])")
#: Elements whose content is not text to read.
_HIDDEN = frozenset({"head", "script", "style", "title", "template"})
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in _HIDDEN}
_LINES = frozenset({"br", "div", "tr", "li", "dt", "dd", "hr", "address", "section", "article"})
_PARAGRAPHS = frozenset({"p", "table", "ul", "ol", "pre", "h1", "h2", "h3", "h4", "h5", "h6"})
_SPACE = re.compile(r"[ \t\r\n\f]+")
#: ``unescape`` turns a reference into a number first, and Python refuses thousands of digits.
_LONG_REFERENCE = re.compile(r"&#[0-9]{8,};?")
_BLANK_LINES = re.compile(r"\n{3,}")
#: Quotations within quotations that are told apart: each makes every line longer.
_DEPTH = 10


def html_to_text(html: str, limit: int = 1024 * 1024) -> str:
    """Return the text of a page, quotations marked by ``> ``.

    :param limit: characters of ``html`` that are looked at.
    """
    if not html:
        return ""
    page = _Text()
    html = html[:limit]
    position = 0
    while found := _MARKUP.search(html, position):
        page.say(html[position : found.start()])
        comment, closing, name = found.groups()
        if comment:
            end = html.find("-->", found.end())
        else:
            end = html.find(">", found.end())
        if end < 0:
            return page.text()
        position = end + (3 if comment else 1)
        if name is None:
            continue
        name = name.lower()
        if name in _HIDDEN and not closing:
            hidden = _ENDS[name].search(html, position)
            if hidden is None:
                return page.text()
            position = hidden.start()
        else:
            page.tag(name, bool(closing))
    page.say(html[position:])
    return page.text()


#: How mail programs mark the quoted history of a page.
_QUOTATION = re.compile(
    r"<blockquote\b|<(?:div|span)\b[^<>]{0,200}?\b(?:gmail_quote|gmail_extra|moz-cite-prefix"
    r"|yahoo_quoted|divRplyFwdMsg|appendonsend|OLK_SRC_BODY_SECTION|protonmail_quote)\b",
    re.IGNORECASE,
)


def html_without_quotation(html: str, limit: int = 1024 * 1024) -> str:
    """Return a page up to its quoted history; all of it if nothing to read stands before that.

    :param limit: characters of ``html`` that are searched.
    """
    found = _QUOTATION.search(html, 0, limit)
    if found is None:
        return html
    before = html[: found.start()]
    return before if html_to_text(before) else html


class _Text:
    """Lines as they come out of a page."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._depth = 0
        self._fresh = True

    def say(self, text: str) -> None:
        if not text:
            return
        if "&" in text:
            text = unescape(_LONG_REFERENCE.sub("\ufffd", text))
        text = _SPACE.sub(" ", text)
        if self._fresh:
            text = text.lstrip(" ")
            if not text:
                return
            self._pieces.append("> " * self._depth)
        self._pieces.append(text)
        self._fresh = False

    def tag(self, name: str, closing: bool) -> None:
        if name == "blockquote":
            self._break(1)
            self._depth += -1 if closing else 1
            self._depth = min(max(self._depth, 0), _DEPTH)
        elif name in _PARAGRAPHS:
            self._break(2)
        elif name == "br":
            self._pieces.append("\n")
            self._fresh = True
        elif name in _LINES:
            self._break(1)

    def _break(self, count: int) -> None:
        if not self._fresh:
            self._pieces.append("\n")
            self._fresh = True
        if count == 2:
            self._pieces.append("\n")

    def text(self) -> str:
        lines = "".join(self._pieces).replace("\xa0", " ").split("\n")
        return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")
