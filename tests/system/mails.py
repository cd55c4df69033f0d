"""Mails as they come: each with CRLF line ends, as it goes over the wire before dot-stuffing."""

from __future__ import annotations

import base64
import random
from email.message import EmailMessage
from email.policy import SMTP

HEADER = (
    b"From: Ann Example <ann@sender.example>\r\n"
    b"To: Bob <bob@example.com>\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    b"Message-ID: <1@sender.example>\r\n"
)


def _octets(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def simple(subject: str = "Hello", text: str = "Good morning.\n") -> bytes:
    """Return a short mail in plain text."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Ann Example <ann@sender.example>"
    mail["To"] = "bob@example.com"
    mail["Subject"] = subject
    mail.set_content(text)
    return bytes(mail)


def multipart() -> bytes:
    """Return text, HTML with a picture in it, and two attachments."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Ann Example <ann@sender.example>"
    mail["To"] = "bob@example.com, Café <cafe@example.com>"
    mail["Subject"] = "Rechnung für Müller, 請求書"
    mail.set_content("Siehe Anhang.\n.\n..zwei Punkte\nFrom hier\n")
    mail.add_alternative('<p>Siehe <img src="cid:logo@x"> Anhang.</p>', subtype="html")
    parts = mail.get_payload()
    assert isinstance(parts, list)
    html = parts[1]
    assert isinstance(html, EmailMessage)
    html.add_related(_octets(900, 1), "image", "png", cid="<logo@x>")
    mail.add_attachment(_octets(70_000, 2), "application", "pdf", filename="Größe.pdf")
    mail.add_attachment("a;b\r\n1;2\r\n", filename="table.csv")
    return bytes(mail)


def eight_bit() -> bytes:
    """Return a mail whose body is UTF-8, unencoded."""
    return (
        HEADER + b"Subject: eight bits\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "Grüße aus Zürich, 東京 und Αθήνα.\r\n".encode()
    )


def broken_charset() -> bytes:
    """Return a mail that says UTF-8 and is not, in the header, too."""
    return (
        HEADER + b"Subject: caf\xe9 =?utf-8?B?//79?= =?nonsense?Q?=FF?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"na\xefve \xff\xfe\x80 \xc3\x28 \xed\xa0\x80\r\n"
    )


def bare_attachment() -> bytes:
    """Return a mail that is nothing but one attachment."""
    return (
        HEADER + b"Subject: scan\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: application/pdf; name="scan.pdf"\r\n'
        b'Content-Disposition: attachment; filename="scan.pdf"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(_octets(9_000, 3)).replace(b"\n", b"\r\n")
    )


def dots_and_blanks() -> bytes:
    """Return what framing gets wrong first: dots, trailing blanks, empty lines, long lines."""
    return (
        HEADER + b"Subject: dots\r\n\r\n"
        b".\r\n..\r\n...\r\n.x\r\n \r\n\t\r\n\r\n\r\nend with blanks  \t\r\n"
        + b"x" * 998
        + b"\r\n."
        + b"y" * 997
        + b"\r\n.\r\n\r\n"
    )


def no_header() -> bytes:
    """Return a mail without a header."""
    return b"\r\nonly a body\r\n"


def no_body() -> bytes:
    """Return a mail that ends with its header, without the empty line."""
    return HEADER + b"Subject: no body\r\n"


def large(size: int = 25 * 1024 * 1024) -> bytes:
    """Return a mail of ``size`` octets or a little more: a big attachment in base64."""
    encoded = base64.encodebytes(_octets(size * 3 // 4, 4)).replace(b"\n", b"\r\n")
    return (
        HEADER + b"Subject: 25 MB\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: application/octet-stream; name="big.bin"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded
    )


#: The mails that are quick to send, by name.
REAL = {
    "simple": simple(),
    "multipart": multipart(),
    "eight bit": eight_bit(),
    "broken charset": broken_charset(),
    "bare attachment": bare_attachment(),
    "dots and blanks": dots_and_blanks(),
    "no header": no_header(),
    "no body": no_body(),
}


def without_trace(mail: bytes, *, return_path: bool = True) -> bytes:
    """Return ``mail`` without the Return-Path and the one Received field that were prepended.

    :param return_path: whether it has a Return-Path: at final delivery, which a webhook is not.
    :raises AssertionError: it does not begin with exactly these.
    """
    end = b"\r\n" if b"\r\n" in mail[:2000] else b"\n"
    lines = mail.split(end, 40)
    rest = 1 if return_path else 0
    assert not return_path or lines[0].startswith(b"Return-Path: <"), lines[0]
    assert lines[rest].startswith(b"Received: from "), lines[rest]
    rest += 1
    while lines[rest].startswith((b" ", b"\t")):
        rest += 1
    return mail[sum(len(line) + len(end) for line in lines[:rest]) :]
