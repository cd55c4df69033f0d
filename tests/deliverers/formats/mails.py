"""A mail, its delivery, and what a format is given of them, for the tests and the documentation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

from zope.interface import implementer

from mailsvc.deliverers.webhook.formats import FORMATS, FormatOptions, Payload, Stream
from mailsvc.interfaces import IContent
from mailsvc.message import Address, Client, Delivery, Envelope, Recipient, Route
from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.parsed import Attachment, ParsedMail
from mailsvc.secretfile import Secret

SENDER = Address("zoe", "example.org")
RECIPIENT = Address("support+4711", "example.com")
RECEIVED_AT = 1_704_103_200.25
NOW = 1_704_103_201.5

MAIL = (
    b"Received: from mail.example.org ([203.0.113.7]) by mx.example.com with ESMTPS id 7KQ2;\r\n"
    b"\tMon, 01 Jan 2024 10:00:00 +0000\r\n"
    b"Message-ID: <20240101.1@example.org>\r\n"
    b"Date: Mon, 01 Jan 2024 11:00:00 +0100\r\n"
    b"From: =?utf-8?q?Zo=C3=AB?= Muster <zoe@example.org>\r\n"
    b'To: "Support, Example" <support+4711@example.com>, Bob <bob@example.net>\r\n'
    b"Cc: carol@example.net\r\n"
    b"Reply-To: desk@example.org\r\n"
    b"Subject: =?utf-8?b?UmU6IEdyw7zDn2U=?=\r\n"
    b"MIME-Version: 1.0\r\n"
    b"X-Priority: 3\r\n"
    b"X-Tag: one\r\n"
    b"X-Tag: two\r\n"
    b"Content-Type: multipart/mixed; boundary=outer\r\n"
    b"\r\n"
    b"--outer\r\n"
    b"Content-Type: multipart/related; boundary=related\r\n"
    b"\r\n"
    b"--related\r\n"
    b"Content-Type: multipart/alternative; boundary=inner\r\n"
    b"\r\n"
    b"--inner\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"Gern, bis morgen! =E2=82=AC 5.\r\n"
    b"\r\n"
    b"--=20\r\n"
    b"Zo=C3=AB\r\n"
    b"\r\n"
    b"On Sun, Dec 31, 2023 at 9:00 AM Support <support@example.com> wrote:\r\n"
    b"> Passt morgen?\r\n"
    b"--inner\r\n"
    b"Content-Type: text/html; charset=iso-8859-15\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b'<p>Gern, bis morgen! \xa4 5. <img src="cid:logo@example.org"></p>'
    b"<blockquote>Passt morgen?</blockquote>\r\n"
    b"--inner--\r\n"
    b"--related\r\n"
    b"Content-Type: image/png; name=logo.png\r\n"
    b"Content-ID: <logo@example.org>\r\n"
    b"Content-Disposition: inline; filename=logo.png\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"iVBORw0KGgo=\r\n"
    b"--related--\r\n"
    b"--outer\r\n"
    b"Content-Type: application/pdf\r\n"
    b"Content-Disposition: attachment; filename*=utf-8''%C3%9Cbersicht.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"JVBERi0xLjcK\r\n"
    b"--outer--\r\n"
)

TEXT_ONLY = b"From: zoe@example.org\r\nTo: support@example.com\r\nSubject: Hi\r\n\r\nHi there.\r\n"
HTML_ONLY = (
    b"From: zoe@example.org\r\nSubject: Hi\r\nContent-Type: text/html\r\n\r\n<p>Hi <b>there</b></p>"
)

UNPARSED = ParsedMail(errors=("not parsed: it took longer than 60 seconds",))


@implementer(IContent)
class Content:
    """Octets in memory."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    def open(self) -> BinaryIO:
        return io.BytesIO(self._octets)


def parsed(octets: bytes) -> ParsedMail:
    """Return a mail as the parser gives it to a format."""
    return parse(octets, Limits())


def delivery(
    reverse_path: Address | None = SENDER,
    recipient: Address = RECIPIENT,
    client: Client | None = None,
    size: int = len(MAIL),
) -> Delivery:
    """Return the second attempt of a delivery."""
    route = Route("support+*@example.com", ("app", "archive"), tag="4711")
    to = Recipient(recipient, route, ("FAILURE", "DELAY"), "rfc822;support+4711@example.com")
    other = Recipient(Address("bob", "example.net"), route)
    envelope = Envelope(
        id="01HK1XGZ7KQ2",
        received_at=RECEIVED_AT,
        reverse_path=reverse_path,
        recipients=(to, other),
        client=client
        or Client("203.0.113.7", "mail.example.org", "ESMTPS", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        body="8BITMIME",
        ret="HDRS",
        envid="QQ314159",
    )
    return Delivery("01HK1XGZ7KQ2-1", envelope, to, "app", 2, size)


def options(
    url: str = "https://app.example.com/inbound",
    *,
    raw: bool = False,
    secrets: Sequence[str] = ("key-3ax6xnjp29jd6fds4gc373sgvjxteol0",),
    inline_limit: int = 262_144,
    links: bool = False,
) -> FormatOptions:
    """Return the options of a destination.

    :param links: attachments above the limit get a URL.
    """

    def link(message_id: str, attachment: Attachment) -> str:
        return f"https://mx.example.com/attachments/{message_id}/{attachment.filename}"

    return FormatOptions(
        url=url,
        hostname="mx.example.com",
        now=lambda: NOW,
        inline_limit=inline_limit,
        raw=raw,
        secrets=tuple(Secret(secret) for secret in secrets),
        link=link if links else None,
    )


def payload(
    name: str,
    octets: bytes = MAIL,
    mail: ParsedMail | None = None,
    given_options: FormatOptions | None = None,
    given_delivery: Delivery | None = None,
) -> Payload:
    """Return what a format makes of a mail."""
    format = FORMATS[name]
    wanted = (mail or parsed(octets)) if format.wants_mail else None
    return format.payload(
        given_delivery or delivery(size=len(octets)),
        Content(octets),
        wanted,
        given_options or options(),
    )


def body(payload: Payload) -> bytes:
    """Return the body as it is sent."""
    if isinstance(payload.body, bytes):
        return payload.body
    assert isinstance(payload.body, Stream)
    with payload.body.content.open() as reader:
        whole = payload.body.prefix + reader.read()
    assert len(whole) == payload.body.size
    return whole
