"""The ``cloudmailin`` format: CloudMailin's JSON, normalized."""

from __future__ import annotations

import msgspec

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, ParsedMail


class CloudMailin:
    """Where nothing was parsed, the whole mail is an attachment of type ``message/rfc822``."""

    name = "cloudmailin"
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
        attachments = [
            _attached(attachment, options.url_of(delivery, attachment))
            for attachment in mail.attachments
        ]
        if words.unparsed(mail):
            whole = words.whole(content)
            attachments.append(_attached(whole, options.url_of(delivery, whole)))
        fields = {
            "headers": _headers(mail),
            "envelope": _envelope(delivery),
            "plain": words.json_text(mail.text),
            "html": words.json_text(mail.html),
            "reply_plain": words.json_text(mail.reply),
            "attachments": attachments,
        }
        return Payload("application/json", msgspec.json.encode(fields))


def _headers(mail: ParsedMail) -> dict[str, str | list[str]]:
    """Return the header by names in lower snake case; a name that comes twice has a list."""
    values: dict[str, list[str]] = {}
    for name, value in mail.headers:
        values.setdefault(name.lower().replace("-", "_"), []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _envelope(delivery: Delivery) -> dict[str, object]:
    sender = words.sender(delivery)
    recipient = words.recipient(delivery)
    client = delivery.envelope.client
    return {
        "to": recipient,
        "recipients": [recipient],
        "from": sender,
        "helo_domain": words.valid(client.helo),
        "remote_ip": client.host,
        # Not checked (RFC 7208 section 2.6.1).
        "spf": {"result": "none", "domain": sender.rpartition("@")[2]},
        "tls": bool(client.tls_version),
    }


def _attached(attachment: Attachment, url: str | None) -> dict[str, object]:
    described: dict[str, object] = {
        "file_name": attachment.filename,
        "content_type": attachment.content_type,
        "size": len(attachment.content),
        "disposition": attachment.disposition,
        "content_id": attachment.content_id,
    }
    if url is None:
        described["content"] = words.json_octets(attachment.content)
    else:
        described["url"] = url
    return described
