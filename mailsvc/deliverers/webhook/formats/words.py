"""Envelope and header values in the forms that several formats share."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from typing import cast
from urllib.parse import unquote

import msgspec

from mailsvc.interfaces import IContent
from mailsvc.message import Address, Delivery
from mailsvc.mime.fields import OF_ADDRESSES, addresses
from mailsvc.mime.limits import Limits, Notes
from mailsvc.mime.pieces import PIECE, pieces
from mailsvc.mime.utf8 import in_utf8
from mailsvc.parsed import Attachment, Mailbox, ParsedMail

_ENCODE = msgspec.json.Encoder().encode
_ATOMS = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]+")
#: Octets of a header block that are read from a content; SMTP accepts no longer one.
_HEADER = 1_048_576
_END = re.compile(rb"\r?\n\r?\n")

#: Octets of a mail up to which it is made UTF-8, part by part, where it goes into a text field.
IN_TEXT = 1_048_576

#: Characters of a page that are searched for what it shows.
_PAGE = 1_048_576
_SHOWN = re.compile(r"\bcid:([^\"'\s<>()]{1,998})", re.IGNORECASE)

#: An address that mail libraries take for one (RFC 5321 section 4.1.2, RFC 6531 section 3.3): a
#: stray word, or two dots on end, makes them refuse a whole list.
_ADDRESS = re.compile(
    r"(?:[^\s@.,:;()<>\[\]\"\\]+(?:\.[^\s@.,:;()<>\[\]\"\\]+)*|\"(?:[^\"\\]|\\.)*\")"
    r"@[^\s@.,:;()<>\[\]\"\\]+(?:\.[^\s@.,:;()<>\[\]\"\\]+)*"
)

#: An empty group, such as ``undisclosed-recipients:;`` (RFC 5322 section 3.4).
_NO_ONE = re.compile(r"[^<>@,\"()\[\]\\:;.]*:\s*;")
_SPECIALS = re.compile(r"[()<>\[\]:;@\\,\".?]+")

#: A Message-ID that is one, if not by the letter (RFC 5322 section 3.6.4).
_IDENTIFIER = re.compile(
    r"<[^\s<>@()\[\],;:\"\\.][^\s<>@]*(?:@(?:[^\s<>@\[\]]+|\[[0-9A-Za-z.:]+\]))?>"
)

#: Fields that a mail has at most once (RFC 5322 section 3.6, RFC 2045 section 3).
_ONCE = frozenset(
    {
        *("bcc", "cc", "date", "from", "message-id", "mime-version", "reply-to", "sender"),
        *("subject", "to", "content-disposition", "content-transfer-encoding", "content-type"),
    }
)


def valid(text: str) -> str:
    """Return ``text`` as valid Unicode: an encoder fails on a lone surrogate."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def path(address: Address | None) -> str:
    """Return an envelope address; nothing for the null reverse-path."""
    return valid(str(address)) if address is not None else ""


def sender(delivery: Delivery) -> str:
    """Return the reverse-path of a delivery's envelope."""
    return path(delivery.envelope.reverse_path)


def recipient(delivery: Delivery) -> str:
    """Return the one recipient of a delivery."""
    return path(delivery.recipient.address)


def mailbox(box: Mailbox) -> str:
    """Return a mailbox as it is written in a header field."""
    if not box.name:
        return box.address
    name = box.name
    if not _ATOMS.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{box.address}>"


def mailboxes(boxes: Iterable[Mailbox]) -> str:
    """Return a list of mailboxes as it is written in a header field."""
    return ", ".join(mailbox(box) for box in boxes)


def field(mail: ParsedMail, name: str) -> str:
    """Return the value of a mail's first header field of that (lower-case) name, or nothing."""
    return next((value for key, value in mail.headers if key.lower() == name), "")


def is_address(text: str) -> bool:
    """Say whether ``text`` is an address that a strict reader takes."""
    return _ADDRESS.fullmatch(text) is not None and "=?" not in text


def headers(mail: ParsedMail) -> list[tuple[str, str]]:
    """Return a mail's header as libraries can make a mail of it again.

    They refuse a second field of some names, and fail on lists of what is no address, and on
    a Message-ID that is none.  The first field is kept; those of recipients are joined.
    """
    joined = {"to": mail.to, "cc": mail.cc, "bcc": mail.bcc, "reply-to": mail.reply_to}
    count = Counter(name.lower() for name, _ in mail.headers)
    seen: set[str] = set()
    kept: list[tuple[str, str]] = []
    for name, value in mail.headers:
        key = name.lower()
        if key in _ONCE and count[key] > 1:
            if key in seen:
                continue
            seen.add(key)
            if key in joined:
                value = mailboxes(joined[key])
        if key in OF_ADDRESSES:
            value = _address_list(value)
        elif key == "message-id" and not _IDENTIFIER.fullmatch(value):
            continue
        kept.append((name, value))
    return kept


def plain(text: str) -> str:
    """Return the words of a text, without what means something in an address list."""
    return _SPECIALS.sub(" ", text).strip()


def _address_list(value: str) -> str:
    """Return the addresses of a list, or words where there is none."""
    boxes = [box for box in addresses(value, Limits(), Notes()) if is_address(box.address)]
    if boxes:
        return mailboxes(boxes)
    return value if _NO_ONE.fullmatch(value) else plain(value)


def shown(mail: ParsedMail) -> frozenset[str]:
    """Return the content ids of the attachments that are part of the page.

    Many programs give every attachment a content id, and receivers take any that has one for a
    picture in the page.
    """
    inline = {part.content_id for part in mail.attachments if part.disposition == "inline"}
    named = {part.content_id for part in mail.attachments} - inline
    if named - {""}:
        found = _SHOWN.findall(mail.html[:_PAGE])
        inline |= named & {*found, *map(unquote, found)}
    return frozenset(inline - {""})


def attachment_octets(attachment: Attachment) -> bytes:
    """Return the octets of an attachment; of a mail, UTF-8.

    Receivers read mails within mails as text, and fail on any that is not.
    """
    if attachment.content_type.startswith("message/") and len(attachment.content) <= IN_TEXT:
        return in_utf8(attachment.content)
    return attachment.content


def mail_in_text(content: IContent) -> bytes:
    """Return a mail for a text field: UTF-8, up to :data:`IN_TEXT` octets."""
    whole = octets(content)
    return in_utf8(whole) if len(whole) <= IN_TEXT else whole


def json_text(text: str) -> str:
    """Return a text for msgspec's JSON encoder; a long one is encoded here, a piece at a time."""
    if len(text) <= PIECE:
        return text
    return cast(str, _raw(_ENCODE(piece)[1:-1] for piece in pieces(text)))


def json_octets(octets: bytes) -> bytes:
    """Return octets that msgspec's JSON encoder puts in base64; as :func:`json_text` for many."""
    if len(octets) <= PIECE:
        return octets
    # Whole groups of three octets need no padding between them.
    step = PIECE - PIECE % 3
    groups = (b64encode(octets[at : at + step]) for at in range(0, len(octets), step))
    return cast(bytes, _raw(groups))


def _raw(string: Iterable[bytes]) -> msgspec.Raw:
    """Return a JSON string that is encoded already: the encoder takes it in place of any value."""
    return msgspec.Raw(b"".join((b'"', *string, b'"')))


def unparsed(mail: ParsedMail) -> bool:
    """Say whether nothing could be made of a mail, so that its octets are all there is."""
    return bool(mail.errors) and not mail.headers and not mail.text and not mail.attachments


def octets(content: IContent) -> bytes:
    """Return all of a content; for formats whose payload holds it in memory in any case."""
    with content.open() as reader:
        return reader.read()


def whole(content: IContent) -> Attachment:
    """Return a whole mail as an attachment."""
    body = octets(content)
    return Attachment(
        "message.eml", "message/rfc822", "", "attachment", "", body, start=0, end=len(body)
    )


def header_block(content: IContent) -> str:
    """Return the header of a mail as it came, lines ended by LF."""
    with content.open() as reader:
        start = reader.read(_HEADER)
    end = _END.search(start)
    block = start[: end.start()] if end else start
    return block.decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "\ufffd") + "\n"
