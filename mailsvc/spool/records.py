"""What goes into the spool's rows and comes out of them, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from mailsvc.message import Envelope

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode

#: The columns of a message that say where its content lies, in the order of :class:`Stored`.
STORED_COLUMNS = "id, seq, segment, offset, file, length, crc, stuffed, size"


class Stored(Struct, frozen=True):
    """Where a message's content lies, and what is true of it.

    :ivar seq: the message's row.
    :ivar segment: the segment that holds it at ``offset``, or None: then ``file`` names its own.
    :ivar length: octets as stored; ``crc`` is over these.
    :ivar stuffed: whether they are dot-stuffed.
    :ivar size: octets that a reader returns.
    """

    message_id: str
    seq: int
    segment: int | None
    offset: int
    file: str | None
    length: int
    crc: int
    stuffed: bool
    size: int


class Planned(Struct, frozen=True):
    """A delivery of a message that is being accepted.

    :ivar held: it is not queued but kept by this process, which means to attempt it at once.
    """

    recipient: int
    destination: str
    held: bool


@dataclass(slots=True, eq=False)
class Accepting:
    """A message on its way into the rows.

    :ivar chunks: the content, where it goes into a segment.
    :ivar segment: where the content was put, and ``offset``; None: ``file`` names its own.
    :ivar error: why it is not accepted.
    :ivar seq: its row, once inserted, and ``tokens`` of its held deliveries, in order.
    """

    message_id: str
    envelope: bytes
    plan: Sequence[Planned]
    length: int
    stuffed: bool
    size: int
    crc: int = 0
    chunks: list[bytes | memoryview] = field(default_factory=list)
    segment: int | None = None
    offset: int = 0
    file: str | None = None
    error: Exception | None = None
    seq: int = 0
    tokens: list[int] = field(default_factory=list)

    def stored(self) -> Stored:
        """Return where the content lies."""
        return Stored(
            self.message_id,
            self.seq,
            self.segment,
            self.offset,
            self.file,
            self.length,
            self.crc,
            self.stuffed,
            self.size,
        )


class Claimed(Struct, frozen=True):
    """A delivery that was claimed from the rows.

    :ivar id: the name that it goes by.
    """

    id: str
    key: int
    token: int
    recipient: int
    destination: str
    attempts: int
    octets: int
    stored: Stored
    envelope: Envelope

    def held(self) -> Held:
        """Return what ``record`` and ``release`` need to know of it."""
        return Held(self.key, self.token, self.destination, self.octets)


class Held(Struct, frozen=True):
    """A delivery that this process holds: what ``record`` and ``release`` need to know of it."""

    key: int
    token: int
    destination: str
    octets: int


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as JSON.

    :raises ValueError: it holds what is no text.
    """
    try:
        return _encode(envelope)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(str(error)) from error


def decode_envelope(text: str | bytes) -> Envelope:
    """Return an envelope of its JSON.

    :raises ValueError: it is damaged.
    """
    try:
        return _decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def stored_of(row: Sequence[Any]) -> Stored:
    """Return what a row of :data:`STORED_COLUMNS` says."""
    id, seq, segment, offset, file, length, crc, stuffed, size = row
    # The database knows truth as a number only.
    return Stored(id, seq, segment, offset, file, length, crc, bool(stuffed), size)
