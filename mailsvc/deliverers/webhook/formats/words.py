"""Envelope and header values in the forms that several formats share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailsvc.interfaces import IContent
from mailsvc.message import Address, Delivery
from mailsvc.parsed import Attachment, Mailbox, ParsedMail

_ATOMS = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]+")
#: Octets of a header block that are read from a content; SMTP accepts no longer one.
_HEADER = 1_048_576
_END = re.compile(rb"\r?\n\r?\n")


def valid(text: str) -> str:
    """Return ``text`` as valid Unicode: an encoder fails on a lone surrogate."""
    return text.encode("utf-8", "replace").decode("utf-8")


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
