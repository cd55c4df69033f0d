"""Flow control: whether octets are taken from a peer now (requirement 42)."""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer

#: Octets held while an answer is awaited, before the transport is paused.
_HELD = 65_536


class Flow:
    """What one connection takes from its transport.

    :param transport: what the octets come from.
    :ivar full: the peer does not read its replies, so nothing more is taken from it.
    """

    __slots__ = (
        "_held",
        "_paused",
        "_transport",
        "full",
    )

    def __init__(self, transport: IPushProducer) -> None:
        self._transport = transport
        self.full = False
        self._held = 0
        self._paused = False

    def hold(self, octets: int) -> None:
        """Count octets that came while an answer is awaited; many of them are enough."""
        self._held += octets
        if self._held > _HELD:
            self._pause()

    def fill(self) -> None:
        """Take nothing until the peer has read."""
        self.full = True
        self._pause()

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
