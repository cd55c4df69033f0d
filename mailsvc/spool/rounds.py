"""When the spool does what it does by itself, and what follows from that here.

:mod:`mailsvc.spool.upkeep` says what is done; this decides when, in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mailsvc.events import Alert, Emit
from mailsvc.spool import operators
from mailsvc.spool.claims import Claims
from mailsvc.spool.content import Shelf
from mailsvc.spool.held import Held
from mailsvc.spool.process import BEAT_SECONDS, SILENT_SECONDS
from mailsvc.spool.records import Stored
from mailsvc.spool.rows import Transaction
from mailsvc.spool.upkeep import Report, Upkeep
from mailsvc.spool.usage import Usage
from mailsvc.spool.workshop import Workshop
from mailsvc.spool.writer import SpoolReactor

#: Seconds between rounds of upkeep, and between those that look for contents to move.
_ROUND = 1.0
_CLEAR = 10.0


class Rounds:
    """Rounds of upkeep, one at a time.

    :param now: seconds since the epoch.
    :ivar under_way: whether a round is.
    """

    def __init__(
        self,
        reactor: SpoolReactor,
        workshop: Workshop,
        upkeep: Upkeep,
        claims: Claims,
        usage: Usage,
        shelf: Shelf,
        emit: Emit,
        now: Callable[[], float],
    ) -> None:
        self.under_way = False
        self._reactor = reactor
        self._workshop = workshop
        self._upkeep = upkeep
        self._claims = claims
        self._usage = usage
        self._shelf = shelf
        self._emit = emit
        self._now = now
        self._next: IDelayedCall | None = None
        self._last_beat = 0.0
        self._next_clear = 0.0

    @property
    def silent(self) -> bool:
        """Whether others may have taken what this process believes to hold."""
        return self._now() > self._last_beat + SILENT_SECONDS / 2

    def start(self) -> None:
        """Begin; the first round is due after a second."""
        self._next = self._reactor.callLater(_ROUND, self._begin)

    def stop(self) -> None:
        """Begin no further round."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _begin(self) -> None:
        self._next = self._reactor.callLater(_ROUND, self._begin)
        if self.under_way:
            return
        now = self._now()
        beating = now >= self._last_beat + BEAT_SECONDS
        clearing = now >= self._next_clear
        if clearing:
            self._next_clear = now + _CLEAR
        self.under_way = True
        Deferred.fromCoroutine(self._round(beating=beating, clearing=clearing)).addErrback(
            self.failed
        ).addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self.under_way = False

    def failed(self, failure: Failure, released: Sequence[Held] = ()) -> None:
        """Say that a part of the upkeep failed; a later round does it again.

        :param released: what the rows could not be told to be held no longer.
        """
        self._claims.owe(released)
        self._emit(Alert(f"spool: upkeep failed: {failure.getErrorMessage()}"))

    async def beat(self) -> None:
        """Give a sign of life now."""
        await self._round(beating=True, clearing=False)

    async def _round(self, *, beating: bool, clearing: bool) -> None:
        claims = self._claims
        released = claims.expired() + claims.stale() + claims.owed()
        now = self._now()
        try:
            report = await self._workshop.change_then(
                lambda transaction: self._upkeep.round(
                    transaction, released, beating=beating, clearing=clearing
                ),
                self._reported,
            )
        except Exception:
            claims.owe(released)
            raise
        if beating:
            self._last_beat = now
        if not report.alive:
            self._emit(Alert("spool: this process was silent for long, others took its deliveries"))
            claims.leave()
            claims.doubt()
        if report.moving:
            await self._move(report.moving)

    def _reported(self, report: Report) -> Report:
        self._usage.refresh(
            segments=report.segments,
            files=report.files,
            database=report.database,
            free=report.free,
            room=report.room,
            held=report.held,
        )
        self._claims.pause_only(report.paused)
        if report.inherited:
            self._claims.doubt()
        return report

    async def _move(self, contents: Sequence[Stored]) -> None:
        try:
            moved, damaged = await self._workshop.in_thread(self._upkeep.move, contents)
        except OSError as error:
            self._emit(Alert(f"spool: contents stay in their segments: {error}"))
            return

        def tell(transaction: Transaction) -> list[str]:
            for stored, reason in damaged:
                operators.quarantine(transaction, stored.message_id, reason)
            return [name for stored, name in moved if not transaction.move(stored, name)]

        unwanted = await self._workshop.change(tell)
        await self._workshop.in_thread(self._shelf.remove, unwanted)
        for stored, reason in damaged:
            self._emit(Alert(f"spool: message {stored.message_id} is set aside: {reason}"))
