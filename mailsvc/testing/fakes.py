"""What a deliverer is given, without a service behind it."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from mailsvc.errors import SpoolError
from mailsvc.events import Event
from mailsvc.interfaces import IContent, IDelivererContext
from mailsvc.message import Address, Client, Delivery, Envelope, Recipient, Route
from mailsvc.parsed import ParsedMail

P = ParamSpec("P")
T = TypeVar("T")

#: A small mail as it comes from the spool.
MAIL = (
    b"Received: from client.example by mx.example.com with ESMTP id 1\r\n"
    b"From: Ada <ada@example.org>\r\nTo: support@example.com\r\n"
    b"Subject: Hello\r\n\r\nHello,\r\n.\r\nworld\r\n"
)

RECIPIENT = Address("support", "example.com")
REVERSE_PATH = Address("ada", "example.org")


@implementer(IContent)
class MemoryContent:
    """A content in memory.

    :ivar readers: every reader that was opened, for tests that look whether all were closed.
    """

    def __init__(self, octets: bytes = MAIL) -> None:
        self._octets = octets
        self.size = len(octets)
        self.readers: list[BinaryIO] = []

    def open(self) -> BinaryIO:
        """Return a fresh reader."""
        reader = io.BytesIO(self._octets)
        self.readers.append(reader)
        return reader


@implementer(IContent)
class DamagedContent:
    """A content that the spool finds damaged when it is opened."""

    size = len(MAIL)

    def open(self) -> BinaryIO:
        """Raise, as the spool does.

        :raises mailsvc.errors.SpoolError: always.
        """
        raise SpoolError("the content's checksum is wrong")


def make_delivery(
    recipient: Address = RECIPIENT,
    reverse_path: Address | None = REVERSE_PATH,
    *,
    id: str = "0001HZX9-1",
    tag: str = "",
    attempt: int = 1,
    size: int = len(MAIL),
    destination: str = "app",
) -> Delivery:
    """Return a delivery of one message to ``recipient``."""
    to = Recipient(recipient, Route(str(recipient), (destination,), tag=tag))
    envelope = Envelope(
        id=id.rpartition("-")[0] or id,
        received_at=1_700_000_000.25,
        reverse_path=reverse_path,
        recipients=(to,),
        client=Client(host="192.0.2.7", helo="client.example", protocol="ESMTP"),
    )
    return Delivery(id, envelope, to, destination, attempt, size)


@implementer(IDelivererContext)
class FakeContext:
    """What a deliverer is lent, without a service.

    :param reactor: a Clock unless the deliverer connects to something.
    :param directory: a temporary directory.
    :ivar events: what was logged.
    :ivar mail: what :meth:`parse` returns.
    :ivar links: makes links to attachments.
    """

    def __init__(self, reactor: object = None, directory: str = "") -> None:
        self.name = "app"
        self.hostname = "mx.example.com"
        self.directory = directory
        self.reactor: Any = Clock() if reactor is None else reactor
        self.events: list[Event] = []
        self.mail = ParsedMail()
        self.links: Any = None

    def emit(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` here and now."""
        return function(*args, **kwargs)

    async def parse(self, content: IContent) -> ParsedMail:
        """Return :attr:`mail`."""
        return self.mail

    async def parsed(self, content: IContent, function: Callable[[ParsedMail], T]) -> T:
        """Return what ``function`` makes of :attr:`mail`."""
        return function(await self.parse(content))


def started(awaitable: Awaitable[T]) -> Deferred[T]:
    """Return a Deferred for what may be a coroutine."""

    async def waiting() -> T:
        return await awaitable

    return Deferred.fromCoroutine(waiting())
