"""Every payload format that a webhook can be sent in.

To add one: write a class that follows :class:`~mailsvc.deliverers.webhook.payload.Format` in a file
of its own, and name it in :data:`FORMATS`.
"""

from __future__ import annotations

from mailsvc.deliverers.webhook.formats.cloudmailin import CloudMailin
from mailsvc.deliverers.webhook.formats.mailgun import Mailgun
from mailsvc.deliverers.webhook.formats.mailsvc import Mailsvc
from mailsvc.deliverers.webhook.formats.postal import Postal
from mailsvc.deliverers.webhook.formats.postmark import Postmark
from mailsvc.deliverers.webhook.formats.rails import Rails
from mailsvc.deliverers.webhook.formats.raw import Raw
from mailsvc.deliverers.webhook.formats.sendgrid import SendGrid
from mailsvc.deliverers.webhook.payload import Format, FormatOptions, Payload, Stream

__all__ = ["FORMATS", "Format", "FormatOptions", "Payload", "Stream"]

_ALL: tuple[Format, ...] = (
    Mailsvc(),
    Raw(),
    Postmark(),
    SendGrid(),
    Mailgun(),
    CloudMailin(),
    Rails(),
    Postal(),
)

FORMATS: dict[str, Format] = {format.name: format for format in _ALL}
