"""The ``mailgun`` format: a form as Mailgun's routes forward it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.formats.forms import attached, form, form_with_mail
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.mime.htmltext import html_to_text, html_without_quotation
from mailsvc.parsed import ParsedMail


class Mailgun:
    """Urlencoded; multipart with attachments, with much text, or with the whole mail.

    A URL that ends in ``mime`` gets the whole mail in the field ``body-mime`` in place of what was
    parsed; so does any where nothing was.
    """

    name = "mailgun"
    wants_mail = True

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the form, signed with the first of the destination's secrets."""
        mail = mail or ParsedMail()
        pairs = [
            ("recipient", words.recipient(delivery)),
            ("sender", words.sender(delivery)),
            ("from", words.mailboxes(mail.sender)),
            ("subject", mail.subject),
            ("message-headers", _json(words.headers(mail))),
            *_signature(options),
        ]
        path = options.url.partition("#")[0].partition("?")[0]
        if path.endswith("mime") or words.unparsed(mail):
            return form_with_mail(pairs, "body-mime", content)
        pairs += [
            ("body-plain", mail.text or html_to_text(mail.html)),
            ("stripped-text", mail.reply),
            ("stripped-signature", mail.signature),
        ]
        if mail.html:
            pairs += [
                ("body-html", mail.html),
                ("stripped-html", html_without_quotation(mail.html)),
            ]
        shown = words.shown(mail)
        files = []
        content_ids: dict[str, str] = {}
        for number, attachment in enumerate(mail.attachments, 1):
            field = f"attachment-{number}"
            files.append(attached(field, attachment))
            if attachment.content_id in shown:
                content_ids[f"<{attachment.content_id}>"] = field
        if files:
            pairs.append(("attachment-count", str(len(files))))
        if content_ids:
            pairs.append(("content-id-map", _json(content_ids)))
        return form(pairs, files)


def _signature(options: FormatOptions) -> list[tuple[str, str]]:
    """Return the fields that Mailgun's customers verify; without a key none can be made."""
    timestamp = str(int(options.now()))
    token = secrets.token_hex(25)
    fields = [("timestamp", timestamp), ("token", token)]
    if options.secrets:
        key = options.secrets[0].reveal().encode("utf-8")
        signed = f"{timestamp}{token}".encode("ascii")
        fields.append(("signature", hmac.new(key, signed, hashlib.sha256).hexdigest()))
    return fields


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode("utf-8")
