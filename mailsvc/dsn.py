"""Delivery status notifications as octets (RFC 3464; RFC 6533 where an address is not ASCII).

A notification tells the sender what became of one recipient.  Its lines hold what peers said, so
each value is made one printable line before it enters a field; a field that would be too long for a
line is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from mailsvc.message import Address, Delivery

#: RFC 3464 section 2.3.3.
Action = Literal["failed", "delayed", "delivered"]

#: Octets of a message that come back whole where RET=FULL asks for it; of a larger one the header.
FULL = 1_048_576
#: Octets of the header that come back.
HEADER = 65_536
#: Octets of a line without its end (RFC 5322 section 2.1.1).
_LINE = 998

_END = re.compile(rb"\r\n\r\n")
_TOO_LONG = re.compile(rb"[^\n]{999}")
_BARE = re.compile(rb"\x00|\r(?!\n)|(?<!\r)\n")
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
_MESSAGE_ID = re.compile(
    rb"^message-id[ \t]*:(?:[ \t]|\r\n[ \t])*(<[\x21-\x3b\x3d\x3f-\x7e]{1,250}>)",
    re.IGNORECASE | re.MULTILINE,
)
_REPLY = re.compile(r"(?P<code>[245]\d\d)(?: (?P<status>[245]\.\d{1,3}\.\d{1,3}))?(?: |$)")

_SUBJECTS: dict[Action, str] = {
    "failed": "Mail was not delivered",
    "delayed": "Mail is delayed",
    "delivered": "Mail was delivered",
}
_WORDS: dict[Action, str] = {
    "failed": "Your mail could not be delivered to this recipient, and is not tried again:",
    "delayed": "Your mail is not yet delivered to this recipient. You need not send it again:",
    "delivered": "Your mail was delivered to this recipient:",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one delivery.

    :ivar reply: the SMTP reply that the destination worded, or empty; nothing else about a cause is
        told to the sender.
    :ivar status: the enhanced status code, where the reply has none.
    :ivar attempted_at: when the last attempt ended.
    :ivar retry_until: when it is given up, for a delay.
    """

    action: Action
    delivery: Delivery
    status: str
    attempted_at: float
    reply: str = ""
    retry_until: float | None = None

    @property
    def international(self) -> bool:
        """Say whether the notification holds UTF-8 (RFC 6533)."""
        envelope = self.delivery.envelope
        addresses = f"{envelope.reverse_path}{self.delivery.recipient.address}"
        return envelope.smtputf8 or not addresses.isascii()

    @property
    def wants_all(self) -> bool:
        """Say whether the message is to come back whole (RFC 3461 section 4.3).

        RET is about failures only.  Binary content cannot stand in a multipart of lines.
        """
        envelope = self.delivery.envelope
        return (
            self.action == "failed"
            and envelope.ret == "FULL"
            and envelope.body != "BINARYMIME"
            and self.delivery.size <= FULL
        )


def one_line(text: str, *, utf8: bool) -> str:
    """Return text without anything that could end or disturb a line."""
    return "".join(
        each if each.isprintable() and (utf8 or each.isascii()) else "?" for each in text
    )


def write(report: Report, original: bytes, name: str, boundary: str, hostname: str) -> bytes:
    """Return a notification, CRLF line ends, dots not stuffed.

    :param original: the message, or as much of its beginning as may come back.
    :param name: the left side of the notification's Message-ID.
    :param boundary: letters and digits that nobody could know when the message was written.
    """
    end = _END.search(original)
    header = original[: end.start() + 2] if end else original
    whole = report.wants_all and not _BARE.search(original) and not _TOO_LONG.search(original)
    returned = _whole(report, original) if whole else _header(report, header)
    parts = (_words(report, hostname), _status(report, hostname), returned)
    opening = _opening(report, _MESSAGE_ID.search(header[:HEADER]), name, boundary, hostname)
    line = b"--" + boundary.encode()
    middle = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts)
    return opening + middle + line + b"--\r\n"


def _opening(
    report: Report, original: re.Match[bytes] | None, name: str, boundary: str, hostname: str
) -> bytes:
    """Return the header (RFC 3464 section 2, RFC 6522 section 3, RFC 3834 section 5)."""
    sender = report.delivery.envelope.reverse_path
    references = ""
    if original is not None:
        about = original[1].decode("ascii")
        references = _field("In-Reply-To", about) + _field("References", about)
    text = (
        f"From: Mail delivery <postmaster@{hostname}>\r\n"
        + _field("To", f"<{sender}>", utf8=report.international)
        + _field("Subject", _SUBJECTS[report.action])
        + _field("Date", _date(report.attempted_at))
        + _field("Message-ID", f"<{name}@{hostname}>")
        + references
        + "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f'\tboundary="{boundary}"\r\n'
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
    )
    return text.encode()


def _words(report: Report, hostname: str) -> bytes:
    """Return the part for people."""
    utf8 = report.international
    recipient = one_line(_recipient(report, hostname), utf8=utf8)
    lines = [f"This is mailsvc at {hostname}.", "", _WORDS[report.action], "", f"    <{recipient}>"]
    if report.reply:
        # A line of the reply is bounded: people read it, and lines may have 998 octets.
        lines += ["", "The answer was:", "", f"    {one_line(report.reply[:200], utf8=utf8)}"]
    if report.retry_until is not None:
        lines += ["", f"It is tried again until {_date(report.retry_until)}."]
    text = "\r\n".join([*lines, ""])
    kind = 'text/plain; charset="utf-8"'
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}".encode()


def _status(report: Report, hostname: str) -> bytes:
    """Return the part for programs (RFC 3464 sections 2.2 and 2.3)."""
    utf8 = report.international
    delivery = report.delivery
    envelope = delivery.envelope
    kind = "message/global-delivery-status" if utf8 else "message/delivery-status"
    found = _REPLY.match(report.reply)
    status = (found["status"] if found else None) or report.status
    address = _recipient(report, hostname)
    until = report.retry_until
    text = "".join(
        (
            f"Content-Type: {kind}\r\n",
            "Content-Transfer-Encoding: 8bit\r\n" if utf8 else "",
            "\r\n",
            _field("Original-Envelope-Id", envelope.envid) if envelope.envid else "",
            _field("Reporting-MTA", f"dns; {hostname}"),
            _field("Arrival-Date", _date(envelope.received_at)),
            "\r\n",
            _original_recipient(delivery.recipient.orcpt, utf8=utf8),
            _field(
                "Final-Recipient",
                f"{'rfc822' if address.isascii() else 'utf-8'}; {address}",
                utf8=utf8,
            ),
            _field("Action", report.action),
            _field("Status", status),
            # RFC 3464 section 2.3.6: what is no SMTP reply has a type of its own.
            _field(
                "Diagnostic-Code",
                f"{'smtp' if found else 'x-mailsvc'}; {report.reply[:200]}",
                utf8=utf8,
            )
            if report.reply
            else "",
            _field("Last-Attempt-Date", _date(report.attempted_at)),
            _field("Will-Retry-Until", _date(until)) if until is not None else "",
        )
    )
    return text.encode()


def _original_recipient(orcpt: str, *, utf8: bool) -> str:
    """Return the field of RFC 3464 section 2.3.1; without UTF-8, RFC 6533 section 3's xtext."""
    kind, semicolon, address = orcpt.partition(";")
    if not semicolon:
        return ""
    if not utf8 and kind.lower() == "utf-8":
        address = "".join(
            each if "\x21" <= each <= "\x7e" and each not in "\\+=" else f"\\x{{{ord(each):02X}}}"
            for each in address
        )
    return _field("Original-Recipient", f"{kind}; {address}", utf8=utf8)


def _whole(report: Report, original: bytes) -> bytes:
    kind = b"message/global" if report.international else b"message/rfc822"
    return _part(kind, original)


def _header(report: Report, header: bytes) -> bytes:
    """Return the header of the message (RFC 6522 section 4, RFC 6533 section 4.3)."""
    if len(header) > HEADER:
        header = header[: header.rfind(b"\n", 0, HEADER) + 1]
    header = _BARE.sub(b" ", header)
    if _TOO_LONG.search(header):
        header = re.sub(rb"([^\n]{990})(?=[^\r\n])", rb"\1\r\n ", header)
    if report.international:
        return _part(b"message/global-headers", header.decode("utf-8", "replace").encode())
    return _part(b"text/rfc822-headers", _EIGHT_BIT.sub(b"?", header))


def _part(kind: bytes, content: bytes) -> bytes:
    encoding = b"8bit" if _EIGHT_BIT.search(content) else b"7bit"
    return (
        b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (kind, encoding)
    ) + content


def _recipient(report: Report, hostname: str) -> str:
    address = report.delivery.recipient.address
    return str(address if address.domain else Address(address.local, hostname))


def _field(name: str, value: str, *, utf8: bool = False) -> str:
    line = f"{name}: {one_line(value, utf8=utf8)}"
    return f"{line}\r\n" if len(line.encode()) <= _LINE else ""


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC))
