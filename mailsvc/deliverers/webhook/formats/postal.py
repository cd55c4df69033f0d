"""The ``postal`` format: JSON as Postal's HTTP endpoints send a raw message."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.formats.streams import Framed
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload, Stream
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import ParsedMail


class Postal:
    """The mail in base64, streamed from the spool."""

    name = "postal"
    wants_mail = False

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the JSON object."""
        fields = {
            "id": _number(delivery.id),
            "rcpt_to": words.recipient(delivery),
            "mail_from": words.sender(delivery),
            "base64": True,
            "size": content.size,
        }
        # The mail is the last member: what stands before it ends within its string.
        prefix = msgspec.json.encode(fields)[:-1] + b',"message":"'
        return Payload("application/json", Stream(prefix, Framed(content, b'"}', encoded=True)))


def _number(delivery_id: str) -> int:
    """Return an id as Postal has them, the same on every attempt: an integer of 53 bits.

    More than that is not exact where numbers are floating-point ones, as in JavaScript.
    """
    return int.from_bytes(sha256(delivery_id.encode()).digest()[:8], "big") >> 11
