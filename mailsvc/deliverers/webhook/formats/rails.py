"""The ``rails`` format: what the relay ingress of Action Mailbox takes."""

from __future__ import annotations

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload, Stream
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import ParsedMail


class Rails:
    """Body ``message/rfc822``, streamed from the spool.

    The ingress wants HTTP basic authentication as ``actionmailbox``, which the destination's
    ``password_file`` gives.
    """

    name = "rails"
    wants_mail = False

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the mail with its recipient in front.

        Action Mailbox routes by the header's recipients and X-Original-To, and a blind copy's
        recipient stands nowhere else.
        """
        recipient = words.recipient(delivery)
        prefix = f"X-Original-To: {recipient}\r\n".encode()
        return Payload("message/rfc822", Stream(prefix, content))
