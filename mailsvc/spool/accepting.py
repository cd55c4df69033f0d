"""A message on its way into the rows, as a value that is changed: compiled, unlike the others."""

from __future__ import annotations

from collections.abc import Sequence

from mailsvc.spool.records import Stored


class Planned:
    """A delivery of a message that is being accepted.

    :ivar recipient: index in the envelope.
    :ivar held: it is not queued but kept by this process, which means to attempt it at once.
    :ivar sync: it is one of a synchronous route.
    """

    __slots__ = ("destination", "held", "recipient", "sync")

    def __init__(self, recipient: int, destination: str, held: bool, sync: bool) -> None:
        self.recipient = recipient
        self.destination = destination
        self.held = held
        self.sync = sync


class Accepting:
    """A message on its way into the rows.

    :ivar chunks: the content, where it goes into a segment.
    :ivar segment: where the content was put, and ``offset``; None: ``file`` names its own.
    :ivar error: why it is not accepted.
    :ivar seq: its row, once inserted, and ``tokens`` of its held deliveries, in order.
    """

    __slots__ = (
        "chunks",
        "crc",
        "envelope",
        "error",
        "file",
        "length",
        "message_id",
        "offset",
        "plan",
        "segment",
        "seq",
        "size",
        "stuffed",
        "tokens",
    )

    def __init__(
        self,
        message_id: str,
        envelope: bytes,
        plan: Sequence[Planned],
        length: int,
        stuffed: bool,
        size: int,
        chunks: list[bytes | memoryview],
    ) -> None:
        self.message_id = message_id
        self.envelope = envelope
        self.plan = plan
        self.length = length
        self.stuffed = stuffed
        self.size = size
        self.chunks = chunks
        self.crc = 0
        self.segment: int | None = None
        self.offset = 0
        self.file: str | None = None
        self.error: Exception | None = None
        self.seq = 0
        self.tokens: list[int] = []

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
