"""Flow control: whether octets are taken from a peer now (requirement 42), and how many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from mailsvc.timing import Timing

#: Octets held while an answer is awaited, before the transport is paused.
_HELD = 65_536

#: So many octets at once are nearly what a transport usually reads (TLS takes some of them for
#: itself), and what one with much to read may come to.  A chunk costs 25 us whatever its size:
#: 25 MiB took a third less CPU in chunks of 512 KiB than in those of 64 KiB.
MUCH, _WIDEST = 49_152, 524_288


@implementer(IPushProducer)
class Flow:
    """What one connection takes from its transport: a peer that does not read is not read from.

    :param transport: what the octets come from; as the consumer of replies it is to be given this
        for its producer.
    :param proceed: called when the peer has read.
    :ivar full: the peer does not read its replies, so nothing more is taken from it.
    """

    __slots__ = (
        "_held",
        "_paused",
        "_proceed",
        "_timing",
        "_transport",
        "full",
    )

    def __init__(
        self, transport: IPushProducer, timing: Timing, proceed: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._timing = timing
        self._proceed = proceed
        self.full = False
        self._held = 0
        self._paused = False

    def hold(self, octets: int) -> None:
        """Count octets that came while an answer is awaited; many of them are enough."""
        self._held += octets
        if self._held > _HELD:
            self._pause()

    def widen(self, octets: int) -> None:
        """Let the transport read more at once if its last read was nearly as much as it may.

        Nothing is held for that while nothing comes.

        :param octets: what it read.
        """
        transport: Any = self._transport
        size: int = getattr(transport, "bufferSize", _WIDEST)
        if size < _WIDEST and 4 * octets >= 3 * size:
            transport.bufferSize = 2 * size

    def pauseProducing(self) -> None:
        """The peer does not read its replies: take nothing more from it."""
        self.full = True
        self._pause()
        self._timing.reading()

    def resumeProducing(self) -> None:
        """The peer has read its replies."""
        self.full = False
        self._timing.read()
        self._proceed()

    def stopProducing(self) -> None:
        """The transport is gone, which the protocol is told."""

    def release(self) -> None:
        """Take octets again: what was held is answered."""
        self._held = 0
        if self._paused and not self.full:
            self.end()

    def end(self) -> None:
        """Let the transport run: one that is paused does not notice that its peer has gone."""
        if self._paused:
            self._paused = False
            self._transport.resumeProducing()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pauseProducing()
