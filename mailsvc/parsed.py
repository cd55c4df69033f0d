"""A mail as a program wants it: the values that :mod:`mailsvc.mime` makes of a content's octets.

All text is Unicode, whatever the mail declared; what could not be decoded is replaced, and
:attr:`ParsedMail.errors` says so.
"""

from __future__ import annotations

from msgspec import Struct


class Mailbox(Struct, frozen=True):
    """One address of a header field (RFC 5322 section 3.4)."""

    name: str
    address: str


class Attachment(Struct, frozen=True):
    """A part that is not the body's text or HTML.

    :ivar filename: as declared, decoded, without any path; empty if none was declared.
    :ivar content_type: ``type/subtype``, lower case.
    :ivar charset: as declared; empty if none.
    :ivar disposition: ``attachment`` or ``inline``.
    :ivar content_id: without the angle brackets; empty if none.
    :ivar content: the decoded octets.
    :ivar start: where in the mail its encoded octets begin, and ``end`` where they end.
    :ivar encoding: what undoes their encoding: ``base64``, ``quoted-printable``, or empty.
    """

    filename: str
    content_type: str
    charset: str
    disposition: str
    content_id: str
    content: bytes
    start: int = 0
    end: int = 0
    encoding: str = ""


class ParsedMail(Struct, frozen=True, weakref=True):
    """A parsed mail; every field is empty where the mail does not have it.

    :ivar headers: names as written and values unfolded and decoded (RFC 2047), in order.
    :ivar date: ISO 8601 with offset, or empty.
    :ivar message_id: the mail's own Message-ID, without the angle brackets.
    :ivar reply: the text without the quoted history and the signature; made from ``html`` where
        there is no text.
    :ivar signature: what followed the signature's separator in the text.
    :ivar errors: what could not be parsed, in words; the mail is delivered all the same.
    """

    headers: tuple[tuple[str, str], ...] = ()
    sender: tuple[Mailbox, ...] = ()
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""
    date: str = ""
    message_id: str = ""
    text: str = ""
    html: str = ""
    reply: str = ""
    signature: str = ""
    attachments: tuple[Attachment, ...] = ()
    errors: tuple[str, ...] = ()
