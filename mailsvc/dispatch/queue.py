"""The work on one destination's queue: when to claim how much, and what is begun of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall

from mailsvc import events
from mailsvc.breaker import BreakerPolicy
from mailsvc.dispatch.attempts import Attempts
from mailsvc.dispatch.destination import Destination, QueueState
from mailsvc.dispatch.means import Means
from mailsvc.dispatch.outcomes import POLL, Outcomes
from mailsvc.dispatch.reasons import reason_of
from mailsvc.dispatch.records import TROUBLE
from mailsvc.interfaces import Claim
from mailsvc.pace import Pace


class DestinationQueue:
    """One destination's share of the spool.

    Nothing here waits for another destination: each queue has its own claims, attempts and timers.

    :param mark: asks for :meth:`pump` in the next turn of the reactor.
    :param quiet: is told, after :meth:`stop`, that nothing is under way any more.
    :ivar marked: :meth:`pump` is going to be called.
    """

    def __init__(
        self,
        name: str,
        destination: Destination | None,
        means: Means,
        mark: Callable[[DestinationQueue], None],
        quiet: Callable[[], None],
    ) -> None:
        self.name = name
        self.marked = False
        self._means = means
        self._mark = mark
        self._quiet = quiet
        self._destination: Destination | None = None
        self._pace = Pace(1, None, BreakerPolicy(), means.clock.seconds())
        self._outcomes = Outcomes(name, means, self._pace, self)
        self._attempts = Attempts(name, means, self._outcomes)
        self._claiming = False
        #: Something may have become due since the claim began.
        self._again = False
        #: The last claim left nothing that is due, and nothing has come since.
        self._drained = False
        #: No claim because of what waits to be recorded.
        self._stalled = False
        self._stopped = False
        #: No claim before this: the spool failed.
        self._trouble_until = 0.0
        #: The last claim found nothing.
        self._missed = False
        self._timer: IDelayedCall | None = None
        self.replace(destination)

    @property
    def busy(self) -> bool:
        """Say whether a claim, an attempt or a record is under way."""
        return bool(self._claiming or self._attempts or self._outcomes.recording)

    def state(self) -> QueueState | None:
        """Return how the queue is worked on, or None if its destination is gone."""
        if self._destination is None:
            return None
        breaker = self._pace.breaker
        held = self._pace.held_until
        return QueueState(
            running=len(self._attempts),
            failures=breaker.failures,
            open_until=breaker.until,
            held_until=held if held > self._means.clock.seconds() else None,
        )

    def replace(self, destination: Destination | None) -> None:
        """Go on with changed settings, or, with None, claim nothing more.

        Attempts that are under way end as they began.
        """
        if destination is not None and destination != self._destination:
            self._pace.adjust(destination.concurrency, destination.rate, destination.breaker)
        self._destination = destination
        if destination is None:
            self._cancel_timer()

    def resume(self) -> None:
        """Begin at full pace again: a person says that the destination is well."""
        self._pace.forget()
        self._outcomes.paused = False
        self._mark(self)

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopped = True
        self._cancel_timer()
        self._outcomes.stop()
        if not self.busy:
            self._attempts.cancel()

    def cancel(self) -> None:
        """End the attempts that are under way; their deliveries are released unspent."""
        self._attempts.cancel()

    def pump(self) -> None:
        """Claim as much as may begin now."""
        destination = self._destination
        if self._claiming:
            self._again = True
            return
        self._drained = False
        if destination is None or self._stopped or self._outcomes.pausing:
            return
        now = self._means.clock.seconds()
        if now < self._trouble_until:
            self.wake_at(self._trouble_until)
            return
        running = len(self._attempts)
        room, until = self._pace.room(now, running)
        # What waits to be recorded is still claimed: a spool that is slow to record gets no more.
        unrecorded = 4 * destination.concurrency + 16 - running - self._outcomes.recording
        self._stalled = unrecorded < 1
        room = min(room, unrecorded)
        if room < 1:
            if until is not None:
                self.wake_at(until)
            return
        self._claiming = True
        self._means.run(self._claim(room), "-", self.name)

    def attempt(self, claim: Claim) -> None:
        """Attempt a delivery that was claimed elsewhere, now: somebody waits for its verdict.

        Who waits is not made to wait for the queue: such attempts are made beside the others, up
        to the same number.  Nobody asks for one while the spool has a pause.
        """
        destination = self._destination
        running = len(self._attempts)
        self._outcomes.paused = False
        if (
            destination is not None
            and running < 2 * destination.concurrency
            and self._pace.allows(self._means.clock.seconds(), running)
        ):
            self._begin([claim])
        else:
            self._give_back(claim)

    # Claims and timers

    async def _claim(self, room: int) -> None:
        spool = self._means.spool
        self._again = False
        paused = self._outcomes.paused
        try:
            claims = await spool.claim(self.name, room, self._means.lease)
            if claims and paused:
                self._outcomes.paused = False  # somebody resumed it
            self._begin(claims)
            if len(claims) >= room:
                self._again = True
            elif not self._again:
                self._go_by(await spool.next_due(self.name), bool(claims))
        except Exception as error:
            self.trouble(f"cannot claim for destination {self.name}", error)
        finally:
            self._claiming = False
        if self._stopped:
            self.ended()
        elif self._again:
            self._mark(self)
        else:
            self._drained = True
            self.wake_at(self._means.clock.seconds() + POLL)

    def _begin(self, claims: Sequence[Claim]) -> None:
        now = self._means.clock.seconds()
        destination = self._destination
        if destination is not None and destination.takes_groups:
            if self._may_begin(now):
                self._pace.began(len(claims), now)
                self._attempts.begin_group(claims, destination)
                return
        for claim in claims:
            # Each may be the one with which the destination's troubles begin.
            if destination is not None and self._may_begin(now):
                self._pace.began(1, now)
                self._attempts.begin(claim, destination)
            else:
                self._give_back(claim)

    def _may_begin(self, now: float) -> bool:
        until = self._pace.breaker.until
        return not (
            self._stopped
            or self._outcomes.pausing
            or self._outcomes.paused
            or (until is not None and now < until)
            or now < self._pace.held_until
        )

    def _give_back(self, claim: Claim) -> None:
        """Release what was claimed, but is not to be attempted any more; nothing is spent."""
        self._again = True
        self._means.run(self._outcomes.release(claim), claim.delivery.id, self.name)

    def _go_by(self, due: float | None, found: bool) -> None:
        """Plan the next claim by when the next delivery is due.

        :param found: whether the last claim found anything.  A spool may hold something back for a
            moment, another worker's or an older delivery's sake; it is not asked without a pause.
        """
        missed, self._missed = self._missed, not found
        if due is None:
            return
        now = self._means.clock.seconds()
        if due > now:
            self.wake_at(due)
        elif found or not missed:
            self._again = True
        else:
            self.wake_at(now + TROUBLE)

    def wake_at(self, when: float) -> None:
        """Pump at ``when``, or sooner if that is planned already."""
        if self._stopped or self._destination is None:
            return
        if self._timer is not None:
            if self._timer.getTime() <= when:
                return
            self._timer.cancel()
        clock = self._means.clock
        self._timer = clock.callLater(max(0.0, when - clock.seconds()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pump()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the outcomes of attempts change

    def freed(self) -> None:
        """Look for more soon, for the attempt's place; the end of a claim sees to that itself."""
        if not self._drained and not self._claiming:
            self._mark(self)

    def trouble(self, what: str, error: Exception) -> None:
        """Say that the spool fails, and leave it alone for a moment."""
        self._means.emit(events.Alert(f"{what}: {reason_of(error)}"))
        self._trouble_until = self._means.clock.seconds() + TROUBLE
        self.wake_at(self._trouble_until)

    def ended(self) -> None:
        """Go on after the end of something that was under way."""
        if self._stopped:
            if not self.busy:
                self._attempts.cancel()
                self._quiet()
        elif self._stalled:
            self._mark(self)
