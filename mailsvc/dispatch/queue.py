"""The work on one destination's queue: when to claim how much, and what an attempt's end means."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from mailsvc import events
from mailsvc.breaker import BreakerPolicy
from mailsvc.dispatch.attempts import Attempt, Attempts
from mailsvc.dispatch.destination import Destination, QueueState, Verdict
from mailsvc.dispatch.means import Means
from mailsvc.dispatch.reasons import Stopped, after, reason_of, traceback_of
from mailsvc.dispatch.records import TROUBLE, Records
from mailsvc.errors import (
    DeliveryFailed,
    DestinationPaused,
    LeaseLost,
    PermanentFailure,
    SpoolError,
    TransientFailure,
)
from mailsvc.interfaces import Claim
from mailsvc.message import Dead, Done, Outcome, Retry
from mailsvc.pace import Pace

#: Seconds after which an idle queue is looked at in any case: another process that shares the spool
#: may have left something.
POLL = 60.0


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
        self._attempts = Attempts(name, means, self._settle)
        self._records = Records(means, self._trouble)
        self._recording = 0
        self._claiming = False
        #: Something may have become due since the claim began.
        self._again = False
        #: The last claim left nothing that is due, and nothing has come since.
        self._drained = False
        #: No claim because of what waits to be recorded.
        self._stalled = False
        self._pausing = False
        #: It was paused here, and no claim has shown yet that it was resumed.
        self._paused = False
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
        return bool(self._claiming or self._attempts or self._recording)

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
        self._paused = False
        self._mark(self)

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopped = True
        self._cancel_timer()
        self._records.stop()
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
        if destination is None or self._stopped or self._pausing:
            return
        now = self._means.clock.seconds()
        if now < self._trouble_until:
            self._wake_at(self._trouble_until)
            return
        running = len(self._attempts)
        room, until = self._pace.room(now, running)
        # What waits to be recorded is still claimed: a spool that is slow to record gets no more.
        unrecorded = 4 * destination.concurrency + 16 - running - self._recording
        self._stalled = unrecorded < 1
        room = min(room, unrecorded)
        if room < 1:
            if until is not None:
                self._wake_at(until)
            return
        self._claiming = True
        self._means.run(self._claim(room), "-", self.name)

    def attempt(self, claim: Claim) -> None:
        """Attempt a delivery that was claimed elsewhere, now: somebody waits for its verdict.

        Who waits is not made to wait for the queue: such attempts are made beside the others, up
        to the same number.
        """
        destination = self._destination
        if destination is not None and len(self._attempts) < 2 * destination.concurrency:
            self._begin(claim)
        else:
            self._give_back(claim)

    # Claims and timers

    async def _claim(self, room: int) -> None:
        spool = self._means.spool
        self._again = False
        paused = self._paused
        try:
            claims = await spool.claim(self.name, room, self._means.lease)
            if claims and paused:
                self._paused = False  # somebody resumed it
            for claim in claims:
                self._begin(claim)
            if len(claims) >= room:
                self._again = True
            elif not self._again:
                self._go_by(await spool.next_due(self.name), bool(claims))
        except Exception as error:
            self._trouble(f"cannot claim for destination {self.name}", error)
        finally:
            self._claiming = False
        if self._stopped:
            self._ended()
        elif self._again:
            self._mark(self)
        else:
            self._drained = True
            self._wake_at(self._means.clock.seconds() + POLL)

    def _begin(self, claim: Claim) -> None:
        now = self._means.clock.seconds()
        destination = self._destination
        until = self._pace.breaker.until
        if (
            destination is None
            or self._stopped
            or self._pausing
            or self._paused
            or (until is not None and now < until)
            or now < self._pace.held_until
        ):
            self._give_back(claim)
            return
        self._pace.began(1, now)
        self._attempts.begin(claim, destination)

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
            self._wake_at(due)
        elif found or not missed:
            self._again = True
        else:
            self._wake_at(now + TROUBLE)

    def _wake_at(self, when: float) -> None:
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

    # Outcomes

    async def _settle(self, attempt: Attempt, failure: Exception | None) -> None:
        """Decide and record what became of an attempt, then say so."""
        self._recording += 1
        if not self._drained and not self._claiming:
            # There may be more for the attempt's place; the end of a claim sees to that itself.
            self._mark(self)
        try:
            if attempt.extending is not None:
                await attempt.extending
            if isinstance(failure, LeaseLost):
                self._lost(attempt)
                return
            outcome = Done() if failure is None else await self._failed(attempt, failure)
            if failure is None:
                self._went_well()
            await self._tell_sender(attempt, outcome, failure)
            if await self._record(attempt.claim, outcome):
                self._tell(attempt, outcome, failure)
            self._answer(attempt.claim, _verdict(outcome, failure))
        finally:
            self._recording -= 1
            self._ended()

    async def _tell_sender(
        self, attempt: Attempt, outcome: Outcome, failure: Exception | None
    ) -> None:
        """Have the sender told before the outcome is recorded, so that a crash forgets neither."""
        tell = self._means.tell
        if tell is None:
            return
        if not isinstance(outcome, Done) and attempt.claim.key in self._means.watchers:
            return  # the SMTP client is told by the reply that it waits for
        reply = failure.reply if isinstance(failure, PermanentFailure) else None
        await tell(attempt.claim, outcome, reply, attempt.destination.schedule)

    async def _record(self, claim: Claim, outcome: Outcome) -> bool:
        if claim.key in self._means.watchers:
            # Who waits is told, and has the mail still if it is not good: nothing more is owed.
            outcome = Done()
        if not await self._records.record(claim, outcome):
            return False
        if isinstance(outcome, Retry) and outcome.spent:
            self._wake_at(outcome.at)
        return True

    def _give_back(self, claim: Claim) -> None:
        """Release what was claimed, but is not to be attempted any more; nothing is spent."""
        self._again = True
        self._recording += 1
        self._means.run(self._release(claim), claim.delivery.id, self.name)

    async def _release(self, claim: Claim) -> None:
        try:
            outcome = Retry(self._means.clock.seconds(), "not attempted", spent=False)
            await self._record(claim, outcome)
            self._answer(claim, Verdict(outcome))
        finally:
            self._recording -= 1
            self._ended()

    def _went_well(self) -> None:
        if self._pace.succeeded():
            self._means.emit(events.BreakerClosed(self.name))

    async def _failed(self, attempt: Attempt, failure: Exception) -> Outcome:
        """Return the outcome of a failed attempt, and note what it says about the destination."""
        now = self._means.clock.seconds()
        if isinstance(failure, PermanentFailure):
            # A refusal is an answer: the destination is well.
            self._went_well()
            return Dead(reason_of(failure))
        if isinstance(failure, Stopped):
            return Retry(now, reason_of(failure), spent=False)
        if isinstance(failure, DestinationPaused):
            return await self._pause(failure, now)
        if not isinstance(failure, SpoolError):
            self._note_failure(attempt, failure, now)
        return after(
            attempt.claim.delivery,
            attempt.destination.schedule,
            failure,
            now,
            self._means.random.random(),
        )

    def _note_failure(self, attempt: Attempt, failure: Exception, now: float) -> None:
        emit = self._means.emit
        if not isinstance(failure, DeliveryFailed):
            name = attempt.claim.delivery.id
            emit(events.AttemptBroke(name, self.name, traceback_of(failure)))
        if isinstance(failure, TransientFailure) and failure.retry_after is not None:
            # It answered, and said when: that is obeyed, and no fault to break the circuit for.
            self._pace.slow_down(now, failure.retry_after)
            return
        seconds = self._pace.failed(now)
        if seconds is not None:
            failures = self._pace.breaker.failures
            emit(events.BreakerOpened(self.name, failures, seconds, reason_of(failure)))

    async def _pause(self, failure: DestinationPaused, now: float) -> Outcome:
        reason = reason_of(failure)
        self._pausing = True
        try:
            await self._means.spool.pause(self.name, reason)
        except Exception as error:
            self._trouble(f"cannot pause destination {self.name}", error)
            return Retry(now + POLL, reason, spent=False)
        finally:
            self._pausing = False
        self._wake_at(now + POLL)
        if not self._paused:
            self._paused = True
            self._means.emit(events.Paused(self.name, reason))
        return Retry(now, reason, spent=False)

    def _tell(self, attempt: Attempt, outcome: Outcome, failure: Exception | None) -> None:
        """Log a recorded outcome."""
        delivery = attempt.claim.delivery
        now = self._means.clock.seconds()
        took = now - attempt.began
        who = (
            delivery.id,
            self.name,
            delivery.envelope.reverse_path,
            delivery.recipient.address,
            delivery.attempt,
            delivery.size,
        )
        emit = self._means.emit
        if isinstance(outcome, Done):
            emit(events.Delivered(*who, took))
        elif attempt.claim.key in self._means.watchers:
            pass  # who waits logs the reply
        elif isinstance(outcome, Dead):
            emit(events.Died(*who, outcome.reason, took))
        elif outcome.spent:
            emit(events.Deferred(*who, outcome.reason, outcome.at - now, took))

    def _answer(self, claim: Claim, verdict: Verdict) -> None:
        """Tell who waits for a delivery."""
        watcher = self._means.watchers.pop(claim.key, None)
        if watcher is not None:
            watcher.callback(verdict)

    def _lost(self, attempt: Attempt) -> None:
        delivery = attempt.claim.delivery
        self._means.emit(
            events.Alert(f"lost the lease of {delivery.id}: attempt {delivery.attempt} was ended")
        )
        now = self._means.clock.seconds()
        self._answer(attempt.claim, Verdict(Retry(now, "its lease was lost", spent=False)))

    def _trouble(self, what: str, error: Exception) -> None:
        """Say that the spool fails, and leave it alone for a moment."""
        self._means.emit(events.Alert(f"{what}: {reason_of(error)}"))
        self._trouble_until = self._means.clock.seconds() + TROUBLE
        self._wake_at(self._trouble_until)

    def _ended(self) -> None:
        """Go on after the end of something that was under way."""
        if self._stopped:
            if not self.busy:
                self._attempts.cancel()
                self._quiet()
        elif self._stalled:
            self._mark(self)


def _verdict(outcome: Outcome, failure: Exception | None) -> Verdict:
    reply = failure.reply if isinstance(failure, PermanentFailure) else ""
    code = failure.code if isinstance(failure, (PermanentFailure, TransientFailure)) else 0
    return Verdict(outcome, reply, code)
