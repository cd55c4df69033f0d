"""A mail transaction as the intake sees it: there is one from MAIL to the answer to the content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mailsvc.events import MessageAccepted, MessageRefused
from mailsvc.interfaces import IIncoming
from mailsvc.message import Address, Envelope, Recipient
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

    def taken(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        destinations: Iterable[str],
        now: float,
    ) -> MessageAccepted:
        """Return what is logged of ``recipients`` whose message was answered 250."""
        return MessageAccepted(
            envelope.id,
            envelope.client.host or "local",
            envelope.reverse_path,
            tuple([each.address for each in recipients]),
            tuple(sorted(destinations)),
            self.size,
            now - envelope.received_at,
            envelope.client.user,
        )

    def refused(
        self, envelope: Envelope, recipients: tuple[Address, ...], reply: str, now: float
    ) -> MessageRefused:
        """Return what is logged of ``recipients`` whose message was refused with ``reply``."""
        return MessageRefused(
            id=envelope.id,
            client=envelope.client.host or "local",
            reverse_path=envelope.reverse_path,
            recipients=recipients,
            size=self.size,
            seconds=now - envelope.received_at,
            reply=reply,
            user=envelope.client.user,
        )
