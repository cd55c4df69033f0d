"""A mail transaction as the intake sees it: there is one from MAIL to the answer to the content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsvc.interfaces import IIncoming
from mailsvc.message import Envelope, Recipient
from mailsvc.smtp.questions import SenderAsked

if TYPE_CHECKING:
    from hashlib import _Hash as Digest


class Transaction:
    """What one MAIL began; a connection without one has none of this.

    :ivar asked: the MAIL.
    :ivar recipients: each once, by its canonical key.
    :ivar accepted: the keys of the recipients for each RCPT that was answered 250, in order.
    :ivar synchronous: a recipient's destination decides the reply to the content.
    :ivar digest: of what that destination is asked about.
    :ivar limit: the smallest size that a recipient's route takes, or None.
    :ivar incoming: the content, while it is received.
    :ivar envelope: from the beginning of the content.
    :ivar size: octets of content so far.
    """

    __slots__ = (
        "accepted",
        "asked",
        "digest",
        "envelope",
        "incoming",
        "limit",
        "recipients",
        "size",
        "synchronous",
    )

    def __init__(self, asked: SenderAsked) -> None:
        self.asked = asked
        self.recipients: dict[tuple[str, str], Recipient] = {}
        self.accepted: list[tuple[str, str]] = []
        self.synchronous = False
        self.digest: Digest | None = None
        self.limit: int | None = None
        self.incoming: IIncoming | None = None
        self.envelope: Envelope | None = None
        self.size = 0
