"""What a webhook's request carries, and what makes it: the contract of every payload format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, ParsedMail
from mailsvc.secretfile import Secret

#: Twisted's reactor: no one type names all the interfaces that it provides.
Reactor = Any


class Stream(Struct, frozen=True):
    """A body that is read from the spool while it is sent, so that memory stays constant.

    :ivar prefix: octets sent before the content.
    :ivar content: sent as it is stored, to its end.
    """

    prefix: bytes
    content: IContent

    @property
    def size(self) -> int:
        """Return the octets of the body in all."""
        return len(self.prefix) + self.content.size


class Payload(Struct, frozen=True):
    """The format's part of one request.

    :ivar content_type: the value of the Content-Type field.
    :ivar headers: further fields: names and values in printable ASCII.
    """

    content_type: str
    body: bytes | Stream
    headers: tuple[tuple[str, str], ...] = ()


class FormatOptions(Struct, frozen=True):
    """What a format may know of its destination.

    :ivar url: where the request goes (Mailgun's fields depend on how it ends).
    :ivar hostname: the name that this service goes by.
    :ivar now: returns the time, in seconds since the epoch.
    :ivar inline_limit: octets of an attachment up to which it is sent in the payload.
    :ivar raw: the operator wants the whole mail in the payload too, where the format has a place
        for it (Postmark's ``RawEmail``, SendGrid's ``email``).
    :ivar secrets: the destination's secrets, the one to use first (Mailgun's signing key).
    :ivar link: returns a signed URL that expires for an attachment of a message, by the message's
        id; None if there can be none, and the octets go into the payload.
    """

    url: str
    hostname: str
    now: Callable[[], float]
    inline_limit: int
    raw: bool = False
    secrets: tuple[Secret, ...] = ()
    link: Callable[[str, Attachment], str] | None = None

    def url_of(self, delivery: Delivery, attachment: Attachment) -> str | None:
        """Return the URL to send in place of the octets, or None to send them."""
        if self.link is None or len(attachment.content) <= self.inline_limit:
            return None
        return self.link(delivery.envelope.id, attachment)


class Format(Protocol):
    """A way to put a mail into a request: one small class, one file, one line in ``FORMATS``.

    :ivar name: the word in the configuration: ``format = "…"``.
    :ivar wants_mail: whether :meth:`payload` is given the parsed mail; otherwise ``mail`` is None.
    """

    @property
    def name(self) -> str:
        """Return the word in the configuration."""

    @property
    def wants_mail(self) -> bool:
        """Say whether the mail is to be parsed."""

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the request's body and header fields.

        Called in a thread, so it may read ``content``.  Whatever the mail holds, this does not
        fail.
        """
