"""The ``sendgrid`` format: a form as SendGrid's Inbound Parse sends it."""

from __future__ import annotations

import msgspec

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.formats.forms import attached, form, form_with_mail
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import ParsedMail


class SendGrid:
    """Multipart, all fields text, attachments as files.

    With ``include_raw``, and where nothing was parsed, it is SendGrid's "raw, full MIME" form: the
    field ``email`` in place of ``headers``, ``text``, ``html`` and the attachments.
    """

    name = "sendgrid"
    wants_mail = True

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the form."""
        mail = mail or ParsedMail()
        envelope = {"to": [words.recipient(delivery)], "from": words.sender(delivery)}
        # What is not checked has the value that says so: "none" (RFC 8601 section 2.7).
        pairs = [
            ("from", words.mailboxes(mail.sender)),
            ("to", words.mailboxes(mail.to)),
            ("cc", words.mailboxes(mail.cc)),
            ("subject", mail.subject),
            ("sender_ip", delivery.envelope.client.host),
            ("envelope", _json(envelope)),
            ("dkim", "none"),
            ("SPF", "none"),
            ("spam_score", "0"),
            ("spam_report", ""),
        ]
        names = ["to", "from", "cc", "subject"]
        if options.raw or words.unparsed(mail):
            pairs.append(("charsets", _charsets(names)))
            return form_with_mail(pairs, "email", content)
        # What the mail does not have is no field.
        bodies = [(name, text) for name, text in (("text", mail.text), ("html", mail.html)) if text]
        pairs += [
            ("headers", words.header_block(content)),
            *bodies,
            ("charsets", _charsets([*names, *(name for name, _ in bodies)])),
            ("attachments", str(len(mail.attachments))),
        ]
        shown = words.shown(mail)
        files = []
        described: dict[str, dict[str, str]] = {}
        content_ids: dict[str, str] = {}
        for number, attachment in enumerate(mail.attachments, 1):
            field = f"attachment{number}"
            file = attached(field, attachment)
            files.append(file)
            described[field] = {
                "filename": file.filename,
                "name": file.filename,
                "charset": attachment.charset,
                "type": attachment.content_type,
            }
            if attachment.content_id in shown:
                described[field]["content-id"] = attachment.content_id
                content_ids[attachment.content_id] = field
        if described:
            pairs.append(("attachment-info", _json(described)))
        if content_ids:
            pairs.append(("content-ids", _json(content_ids)))
        return form(pairs, files, urlencoded=False)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode("utf-8")


def _charsets(names: list[str]) -> str:
    return _json({name: "UTF-8" for name in names})
