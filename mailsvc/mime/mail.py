"""One mail's octets to :class:`~mailsvc.parsed.ParsedMail`: a plain function, without I/O."""

from __future__ import annotations

import re

from mailsvc.mime import fields
from mailsvc.mime.decoding import ENCODINGS
from mailsvc.mime.htmltext import html_to_text
from mailsvc.mime.limits import Limits, Notes
from mailsvc.mime.parts import Part, Tree
from mailsvc.mime.reply import split_reply
from mailsvc.parsed import Attachment, Mailbox, ParsedMail

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_PATH = re.compile(r"[/\\]")
_FILENAME = 255


def parse(octets: bytes, limits: Limits) -> ParsedMail:
    """Return the parsed mail; what could not be parsed is told in its ``errors``.

    :param octets: header and body as they came, lines ended by CRLF (a bare LF does, too).
    """
    notes = Notes()
    tree = Tree(octets, limits, notes)
    headers: list[tuple[str, str]] = []
    first: dict[str, tuple[str, str]] = {}
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for name, value in tree.fields:
        key = name.lower()
        text = fields.raw_text(value, notes)
        shown = fields.decoded_words(text, notes, key in fields.OF_ADDRESSES)
        headers.append((name, shown))
        first.setdefault(key, (text, shown))
        if key in lists:
            lists[key].append(text)
    boxes = {name: _boxes(values, limits, notes) for name, values in lists.items()}
    texts: list[str] = []
    pages: list[str] = []
    attachments: list[Attachment] = []
    for part in tree.leaves:
        filename = _filename(part)
        place = _body_of(part, filename)
        if place == "text":
            texts.append(tree.text(part, "text"))
        elif place == "html":
            pages.append(tree.text(part, "html"))
        else:
            number = len(attachments) + 1
            attachments.append(_attachment(tree, part, filename, number, notes))
    text, html = "\n".join(texts), "\n".join(pages)
    plain = text if texts else html_to_text(html, limits.reply)
    reply, signature = split_reply(plain, limits.reply)
    return ParsedMail(
        headers=tuple(headers),
        sender=boxes["from"],
        to=boxes["to"],
        cc=boxes["cc"],
        bcc=boxes["bcc"],
        reply_to=boxes["reply-to"],
        subject=first.get("subject", _NONE)[1],
        date=fields.date(first.get("date", _NONE)[0], notes),
        message_id=fields.identifier(first.get("message-id", _NONE)[0]),
        text=text,
        html=html,
        reply=reply,
        signature=signature,
        attachments=tuple(attachments),
        errors=notes.all(),
    )


#: A field that is not there: its text and what is shown of it.
_NONE = ("", "")
_LISTS = ("from", "to", "cc", "bcc", "reply-to")


def _boxes(values: list[str], limits: Limits, notes: Notes) -> tuple[Mailbox, ...]:
    return fields.addresses(", ".join(values), limits, notes) if values else ()


def _body_of(part: Part, filename: str) -> str:
    """Say where a part goes: ``text``, ``html``, or to the attachments (empty)."""
    if part.opaque or part.disposition == "attachment" or filename:
        return ""
    if part.content_type == "text/html":
        return "html"
    # The body itself is text whatever kind of text it is; a text part beside others is the body
    # only if it is plain.
    plain = part.content_type == "text/plain"
    return "text" if plain or (not part.within and part.content_type.startswith("text/")) else ""


def _filename(part: Part) -> str:
    name = part.disposition_parameters.get("filename") or part.parameters.get("name", "")
    if not name:
        return ""
    # Some programs send the whole path (RFC 2183 section 2.3 warns of it).
    name = _PATH.split(name.replace("\0", " "))[-1].strip()
    return "" if name in (".", "..") else name[:_FILENAME]


def _attachment(tree: Tree, part: Part, filename: str, number: int, notes: Notes) -> Attachment:
    content_id = fields.identifier(part.field("content-id", notes))
    if part.disposition in ("attachment", "inline"):
        disposition = part.disposition
    else:
        # A part that a page refers to is shown in it (RFC 2387).
        disposition = "inline" if content_id and part.within == "related" else "attachment"
    known = _TYPE.fullmatch(part.content_type)
    return Attachment(
        filename=filename,
        content_type=part.content_type if known else "application/octet-stream",
        charset=part.parameters.get("charset", ""),
        disposition=disposition,
        content_id=content_id,
        content=tree.content(part, f"attachment {number}"),
        start=part.start,
        end=part.end,
        encoding=part.encoding if part.encoding in ENCODINGS else "",
    )
