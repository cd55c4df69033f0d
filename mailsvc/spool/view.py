"""What an operator sees of a spool, and the limits that an operator sets: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from mailsvc.message import Envelope

#: A delivery waits for its time, is being attempted, or is a dead letter.
State = Literal["waiting", "delivering", "dead"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much a spool may take.

    :ivar octets: of the disk, for segments, files and the database together.
    :ivar low_water: octets of the disk that stay free, whatever ``octets`` says.
    :ivar content_memory: octets of content that wait in memory, over all connections.
    :ivar share: by destination, the part of ``octets`` (0 to 1) that its deliveries may hold, dead
        letters included; :attr:`default_share` for those not named.
    """

    octets: int = 10 << 30
    low_water: int = 256 * MIB
    content_memory: int = 64 * MIB
    share: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    default_share: float = 0.5


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One delivery.

    :ivar due: when it is tried next; for a dead letter, when it died.
    :ivar size: octets of the content as delivered.
    :ivar reverse_path: empty for the null reverse-path.
    :ivar reason: what the last attempt said; empty before the first.
    """

    id: str
    message_id: str
    state: State
    destination: str
    attempts: int
    due: float
    received_at: float
    size: int
    reverse_path: str
    recipient: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageDetail:
    """One message with all of its deliveries that have not ended well.

    :ivar place: where in the spool its content lies, for people.
    """

    envelope: Envelope
    size: int
    place: str
    entries: tuple[QueueEntry, ...]


@dataclass(frozen=True, slots=True)
class DestinationSummary:
    """How many deliveries a destination has.

    :ivar oldest: when the oldest that waits was received, or None.
    :ivar next_due: when the next of those that wait is tried, or None.
    :ivar paused: the reason of a pause, or None.
    :ivar octets: of the spool that its deliveries hold.
    """

    destination: str
    waiting: int
    delivering: int
    dead: int
    oldest: float | None
    next_due: float | None
    paused: str | None
    octets: int = 0


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """The whole spool.

    :ivar octets: what it takes of the disk: segments, files, database.
    :ivar limit: what it may take.
    """

    destinations: tuple[DestinationSummary, ...]
    messages: int
    octets: int
    limit: int


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """A mail that a sender may repeat: its envelope for one recipient, and its content.

    :ivar reverse_path: empty for the null reverse-path.
    :ivar sha256: of the content as received.
    """

    reverse_path: str
    recipient: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a synchronous route answered, kept for a sender who gave up too early.

    :ivar code: of the SMTP reply; 0 while the destination has not answered yet.
    :ivar delivery_id: the id under which the destination was asked.
    """

    code: int
    text: str
    delivery_id: str
    until: float
