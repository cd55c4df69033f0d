"""Every log event, worded here and nowhere else.

An event is a frozen struct: its class is its name, its fields are what the JSON lines carry, and
:meth:`Event.text` is the line for people, of words that :mod:`mailsvc.wording` makes safe to show.
No event carries content, passwords or secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from msgspec import Struct, structs

from mailsvc import wording
from mailsvc.message import Address, Delivery
from mailsvc.wording import printable, shown


class Event(Struct, frozen=True):
    """The base of all events."""

    level: ClassVar[str] = "info"

    @property
    def name(self) -> str:
        """Return the event's name in the JSON lines: the class name."""
        return type(self).__name__

    def text(self) -> str:
        """Return the line for people."""
        raise NotImplementedError

    def values(self) -> dict[str, object]:
        """Return the fields, for the JSON line."""
        return structs.asdict(self)


#: What a part that logs is given: call it with an event.
Emit = Callable[[Event], None]


class MessageAccepted(Event, frozen=True):
    """250 was answered: the message is durable.

    :ivar destinations: where it goes, sorted.
    """

    id: str
    client: str
    reverse_path: Address | None
    recipients: tuple[Address, ...]
    destinations: tuple[str, ...]
    size: int
    seconds: float
    user: str | None = None

    def text(self) -> str:
        """Return the line for people."""
        return wording.accepted(
            self.id,
            self.reverse_path,
            self.recipients,
            self.destinations,
            self.size,
            self.client,
            self.user,
            self.seconds,
        )


class MessageRefused(Event, frozen=True):
    """The content of a message was answered with 4xx or 5xx; nothing of it is kept.

    :ivar size: octets that had been taken.
    """

    id: str
    client: str
    reverse_path: Address | None
    recipients: tuple[Address, ...]
    size: int
    seconds: float
    reply: str
    user: str | None = None

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"refused {self.id} {wording.envelope(self.reverse_path, self.recipients)}"
            f" size={self.size} {wording.client(self.client, self.user)} in {self.seconds:.3f}s:"
            f" {printable(self.reply, 200)}"
        )


class CommandRefused(Event, frozen=True):
    """A connection, a sender, a recipient or a login was answered with 4xx or 5xx.

    :ivar reverse_path: that of the transaction, empty for the null one; None: there is none.
    """

    client: str
    command: str
    subject: str
    reply: str
    reverse_path: str | None = None

    def text(self) -> str:
        """Return the line for people."""
        sender = f" from=<{shown(self.reverse_path)}>" if self.reverse_path is not None else ""
        return (
            f"refused {printable(self.command)} {shown(self.subject)}{sender}"
            f" {wording.client(self.client)}: {printable(self.reply, 200)}"
        )


class HeaderRefused(Event, frozen=True):
    """A proxy's connection was closed for its PROXY header; nothing was answered."""

    level: ClassVar[str] = "warn"
    proxy: str
    reason: str

    def text(self) -> str:
        """Return the line for people."""
        return f"closed proxy={shown(self.proxy)}: its PROXY header {printable(self.reason, 200)}"


class _Attempted(Event, frozen=True):
    """What became of an attempt."""

    id: str
    destination: str
    reverse_path: Address | None
    recipient: Address
    attempt: int
    size: int

    def _delivery(self) -> str:
        return wording.delivery(
            self.id,
            self.reverse_path,
            self.recipient,
            self.destination,
            self.attempt,
            self.size,
        )


class Delivered(_Attempted, frozen=True):
    """A destination answers for the message now."""

    seconds: float

    def text(self) -> str:
        """Return the line for people."""
        return wording.delivered(
            self.id,
            self.reverse_path,
            self.recipient,
            self.destination,
            self.attempt,
            self.size,
            self.seconds,
        )


def delivered(delivery: Delivery, seconds: float) -> Delivered:
    """Return what is logged of a delivery that took so long; the interpreter reads Structs best."""
    envelope = delivery.envelope
    return Delivered(
        delivery.id,
        delivery.destination,
        envelope.reverse_path,
        delivery.recipient.address,
        delivery.attempt,
        delivery.size,
        seconds,
    )


class Deferred(_Attempted, frozen=True):
    """An attempt failed; there will be another."""

    level: ClassVar[str] = "warn"
    reason: str
    retry_in: float
    seconds: float

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"deferred {self._delivery()} again in {self.retry_in:.0f}s, took {self.seconds:.3f}s:"
            f" {printable(self.reason, 200)}"
        )


class Died(_Attempted, frozen=True):
    """A delivery became a dead letter."""

    level: ClassVar[str] = "error"
    reason: str
    seconds: float

    def text(self) -> str:
        """Return the line for people."""
        return f"dead {self._delivery()}, took {self.seconds:.3f}s: {printable(self.reason, 200)}"


class Notified(Event, frozen=True):
    """A delivery status notification for the sender is in the spool.

    :ivar notice: the notification's message id.
    """

    id: str
    action: str
    sender: Address | None
    notice: str

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"notified {wording.path(self.sender)} of {shown(self.id)} {shown(self.action)}"
            f" notice={shown(self.notice)}"
        )


class Notice(Event, frozen=True):
    """Something of the service itself that an operator wants to read."""

    message: str

    def text(self) -> str:
        """Return the line for people."""
        return printable(self.message, 2000)


class Alert(Notice, frozen=True):
    """Something that an operator should look at."""

    level: ClassVar[str] = "warn"


class AttemptBroke(Event, frozen=True):
    """A deliverer raised what it does not declare; the attempt counts as a transient failure.

    :ivar traceback: the innermost frames and the error, one a line; bounded.
    """

    level: ClassVar[str] = "error"
    id: str
    destination: str
    traceback: str

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"deliverer of destination={shown(self.destination)} failed on {self.id}:"
            f" {printable(self.traceback, 4000)}"
        )


class Paused(Event, frozen=True):
    """A destination gets nothing more until a person resumes it; its queue is kept."""

    level: ClassVar[str] = "warn"
    destination: str
    reason: str

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"paused destination={shown(self.destination)} until it is resumed:"
            f" {printable(self.reason, 200)}"
        )


class Resumed(Event, frozen=True):
    """A person ended a pause: what waited is due now."""

    destination: str

    def text(self) -> str:
        """Return the line for people."""
        return f"resumed destination={shown(self.destination)}"


class BreakerOpened(Event, frozen=True):
    """A destination failed so often in a row that it is left alone for a time."""

    level: ClassVar[str] = "warn"
    destination: str
    failures: int
    seconds: float
    reason: str

    def text(self) -> str:
        """Return the line for people."""
        return (
            f"left alone destination={shown(self.destination)} for {self.seconds:.0f}s after"
            f" {self.failures} failures in a row: {printable(self.reason, 200)}"
        )


class BreakerClosed(Event, frozen=True):
    """A destination that was left alone takes mail again."""

    destination: str

    def text(self) -> str:
        """Return the line for people."""
        return f"takes mail again destination={shown(self.destination)}"


class Broke(Event, frozen=True):
    """A part of the service raised what it never should; what it was doing was given up.

    :ivar traceback: the innermost frames and the error, one a line; bounded.
    """

    level: ClassVar[str] = "critical"
    part: str
    traceback: str

    def text(self) -> str:
        """Return the line for people."""
        return f"failure in {shown(self.part)}: {printable(self.traceback, 4000)}"


class StartFailed(Event, frozen=True):
    """The service ends before it has listened."""

    level: ClassVar[str] = "critical"
    reason: str

    def text(self) -> str:
        """Return the line for people."""
        return f"cannot start: {printable(self.reason, 2000)}"
