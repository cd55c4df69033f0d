"""The ``postmark`` format: JSON as Postmark's inbound webhook sends it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import msgspec

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, Mailbox, ParsedMail

#: The name space of this service's deliveries, for ids that stay the same on every attempt.
_DELIVERIES = uuid.UUID("0b6e1f4e-6c1d-4c43-9f5e-0d1f6c1f8a55")

#: Header fields that Postmark gives as fields of their own, and those of a body it has decoded.
_APART = frozenset(
    {
        "bcc",
        "cc",
        "content-transfer-encoding",
        "content-type",
        "date",
        "from",
        "reply-to",
        "return-path",
        "subject",
        "to",
    }
)


class Postmark:
    """``RawEmail`` is filled if the operator wants it (Rails needs it) or nothing was parsed."""

    name = "postmark"
    wants_mail = True

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the JSON object."""
        mail = mail or ParsedMail()
        sender = _sender(mail, delivery, options)
        shown = words.shown(mail)
        recipient = words.recipient(delivery)
        bcc = mail.bcc
        if recipient.lower() not in {box.address.lower() for box in mail.to + mail.cc + bcc}:
            # Where the header does not name the recipient, it was a blind copy.
            bcc = (*bcc, Mailbox("", recipient))
        fields: dict[str, object] = {
            "From": sender.address,
            "FromName": sender.name,
            "FromFull": _full(sender),
            "To": words.mailboxes(mail.to),
            "ToFull": _fulls(mail.to),
            "Cc": words.mailboxes(mail.cc),
            "CcFull": _fulls(mail.cc),
            "Bcc": words.mailboxes(bcc),
            "BccFull": _fulls(bcc),
            "OriginalRecipient": recipient,
            "ReplyTo": words.mailboxes(filter(_is_address, mail.reply_to)),
            "Subject": mail.subject,
            "Date": words.field(mail, "date"),
            "MailboxHash": words.valid(delivery.recipient.route.tag) or _hash(recipient),
            "MessageID": str(uuid.uuid5(_DELIVERIES, delivery.id)),
            "MessageStream": "inbound",
            "Tag": "",
            "TextBody": words.json_text(mail.text),
            "HtmlBody": words.json_text(mail.html),
            "StrippedTextReply": words.json_text(mail.reply),
            "Headers": _headers(words.sender(delivery), words.headers(mail)),
            "Attachments": [_attached(attachment, shown) for attachment in mail.attachments],
        }
        if options.raw or words.unparsed(mail):
            fields["RawEmail"] = words.json_text(
                words.mail_in_text(content).decode("utf-8", "replace")
            )
        return Payload("application/json; charset=utf-8", msgspec.json.encode(fields))


def _sender(mail: ParsedMail, delivery: Delivery, options: FormatOptions) -> Mailbox:
    """Return the sender; where the header has no address, one is made up, as receivers need one."""
    for box in filter(_is_address, mail.sender):
        return box
    name = next((box.name or words.plain(box.address) for box in mail.sender), "")
    address = words.sender(delivery)
    # Mail programs write the null reverse-path so.
    return Mailbox(name, address or f"MAILER-DAEMON@{options.hostname}")


def _hash(address: str) -> str:
    """Return what stands between plus sign and at sign."""
    return address.rpartition("@")[0].partition("+")[2]


def _full(box: Mailbox) -> dict[str, str]:
    return {"Email": box.address, "Name": box.name, "MailboxHash": _hash(box.address)}


def _fulls(boxes: Iterable[Mailbox]) -> list[dict[str, str]]:
    """Return the mailboxes that are addresses: receivers fail on one that is none."""
    return [_full(box) for box in boxes if _is_address(box)]


def _is_address(box: Mailbox) -> bool:
    return words.is_address(box.address)


def _headers(sender: str, headers: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    kept = [(name, value) for name, value in headers if name.lower() not in _APART]
    # Whoever reads the envelope's sender looks for it here, and only in the first place.
    return [
        {"Name": name, "Value": value} for name, value in [("Return-Path", f"<{sender}>"), *kept]
    ]


def _attached(attachment: Attachment, shown: frozenset[str]) -> dict[str, object]:
    octets = words.attachment_octets(attachment)
    described: dict[str, object] = {
        "Name": attachment.filename,
        "Content": words.json_octets(octets),
        "ContentType": attachment.content_type,
        "ContentLength": len(octets),
        # Whoever finds one, even an empty one, takes the attachment for an inline one.
        "ContentID": attachment.content_id if attachment.content_id in shown else None,
    }
    if not octets:
        # Whoever finds no content looks for that of Postmark's test payloads, and fails without.
        described["Data"] = ""
    return described
