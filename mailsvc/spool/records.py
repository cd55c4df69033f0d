"""What goes into the spool's rows and comes out of them, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from mailsvc.message import Envelope
from mailsvc.spool.held import Held

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
