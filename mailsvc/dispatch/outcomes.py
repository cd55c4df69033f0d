"""What became of one destination's attempts: decided, recorded, and then said."""

from __future__ import annotations

from typing import Protocol

from mailsvc import events
from mailsvc.dispatch.attempts import Attempt
from mailsvc.dispatch.destination import Verdict
from mailsvc.dispatch.means import Means
from mailsvc.dispatch.reasons import Stopped, after, reason_of, traceback_of
from mailsvc.dispatch.records import Records
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


class Queue(Protocol):
    """What the outcomes of a destination's attempts change in its queue."""

    def wake_at(self, when: float) -> None:
        """Look at the queue at ``when``."""

    def freed(self) -> None:
        """Look at the queue soon: an attempt has ended, and there is a place for another."""

    def ended(self) -> None:
        """Go on after the end of a record."""

    def trouble(self, what: str, error: Exception) -> None:
        """Say that the spool fails, and leave it alone for a moment."""


class Outcomes:
    """The outcomes of one destination's attempts.

    Most attempts go well, and then there is nothing to decide: :meth:`went_well` takes those, and
    they are recorded together at the end of the reactor's turn.  :meth:`settle` is the way of all
    others, and the plain twin (``tests/dispatch/test_outcomes.py`` compares the two); a delivery
    that goes it costs three times as much.

    :ivar recording: outcomes that are on their way into the spool.
    :ivar pausing: the destination is being paused.
    :ivar paused: it was paused here, and no claim has shown yet that it was resumed.
    """

    def __init__(self, name: str, means: Means, pace: Pace, queue: Queue) -> None:
        self.recording = 0
        self.pausing = False
        self.paused = False
        self._name = name
        self._means = means
        self._pace = pace
        self._queue = queue
        self._records = Records(means, queue.trouble)
        self._well: list[Attempt] = []
        self._stopped = False

    def stop(self) -> None:
        """Record what has ended now, and try nothing again."""
        self._stopped = True
        self._records.stop()
        self._finish()

    # What went well

    def went_well(self, attempt: Attempt) -> bool:
        """Take an attempt that succeeded, if nobody but the spool and the log is to know."""
        means = self._means
        claim = attempt.claim
        if (
            self._stopped
            or attempt.extending is not None
            or (means.watchers and claim.key in means.watchers)
            or (means.tell is not None and "SUCCESS" in claim.delivery.recipient.notify)
        ):
            return False
        self.recording += 1
        self._succeeded()
        self._well.append(attempt)
        if len(self._well) == 1:
            means.turn_end.add(self._finish)
        self._queue.freed()
        return True

    def _finish(self) -> None:
        attempts, self._well = self._well, []
        if attempts:
            self._means.run(self._finished(attempts), "-", self._name)

    async def _finished(self, attempts: list[Attempt]) -> None:
        """Record that deliveries are done, then say so."""
        try:
            try:
                stale = await self._means.spool.finish([attempt.claim for attempt in attempts])
            except Exception:
                # Each for itself, with the patience that its lease allows.
                for attempt in attempts:
                    name = attempt.claim.delivery.id
                    self._means.run(self.settle(attempt, None), name, self._name)
                return
            lost = {claim.key for claim in stale}
            now = self._means.clock.seconds()
            for attempt in attempts:
                try:
                    if lost and attempt.claim.key in lost:
                        self._records.lost(attempt.claim, Done())
                    else:
                        self._delivered(attempt, now)
                except Exception as error:
                    # What goes wrong with one does not go wrong with the others.
                    self._means.broke(error, attempt.claim.delivery.id, self._name)
        finally:
            self.recording -= len(attempts)
            self._queue.ended()

    def _delivered(self, attempt: Attempt, now: float) -> None:
        self._means.emit(events.delivered(attempt.claim.delivery, now - attempt.began))

    def _succeeded(self) -> None:
        if self._pace.succeeded():
            self._means.emit(events.BreakerClosed(self._name))

    # All else

    async def settle(self, attempt: Attempt, failure: Exception | None) -> None:
        """Decide and record what became of an attempt, then say so."""
        self.recording += 1
        self._queue.freed()
        try:
            if attempt.extending is not None:
                await attempt.extending
            if isinstance(failure, LeaseLost):
                self._lost(attempt)
                return
            outcome = Done() if failure is None else await self._failed(attempt, failure)
            if failure is None:
                self._succeeded()
            await self._tell_sender(attempt, outcome, failure)
            if await self._record(attempt.claim, outcome):
                self._tell(attempt, outcome)
            self._answer(attempt.claim, _verdict(outcome, failure))
        finally:
            self.recording -= 1
            self._queue.ended()

    async def release(self, claim: Claim) -> None:
        """Give back what was claimed, but is not to be attempted any more; nothing is spent."""
        self.recording += 1
        try:
            outcome = Retry(self._means.clock.seconds(), "not attempted", spent=False)
            await self._record(claim, outcome)
            self._answer(claim, Verdict(outcome))
        finally:
            self.recording -= 1
            self._queue.ended()

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
            self._queue.wake_at(outcome.at)
        return True

    async def _failed(self, attempt: Attempt, failure: Exception) -> Outcome:
        """Return the outcome of a failed attempt, and note what it says about the destination."""
        now = self._means.clock.seconds()
        if isinstance(failure, PermanentFailure):
            # A refusal is an answer: the destination is well.
            self._succeeded()
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
            emit(events.AttemptBroke(name, self._name, traceback_of(failure)))
        if isinstance(failure, TransientFailure) and failure.retry_after is not None:
            # It answered, and said when: that is obeyed, and no fault to break the circuit for.
            self._pace.slow_down(now, failure.retry_after)
            return
        seconds = self._pace.failed(now)
        if seconds is not None:
            failures = self._pace.breaker.failures
            emit(events.BreakerOpened(self._name, failures, seconds, reason_of(failure)))

    async def _pause(self, failure: DestinationPaused, now: float) -> Outcome:
        reason = reason_of(failure)
        self.pausing = True
        try:
            await self._means.spool.pause(self._name, reason)
        except Exception as error:
            self._queue.trouble(f"cannot pause destination {self._name}", error)
            return Retry(now + POLL, reason, spent=False)
        finally:
            self.pausing = False
        self._queue.wake_at(now + POLL)
        if not self.paused:
            self.paused = True
            self._means.emit(events.Paused(self._name, reason))
        return Retry(now, reason, spent=False)

    def _tell(self, attempt: Attempt, outcome: Outcome) -> None:
        """Log a recorded outcome."""
        now = self._means.clock.seconds()
        if isinstance(outcome, Done):
            self._delivered(attempt, now)
            return
        delivery = attempt.claim.delivery
        took = now - attempt.began
        who = (
            delivery.id,
            self._name,
            delivery.envelope.reverse_path,
            delivery.recipient.address,
            delivery.attempt,
            delivery.size,
        )
        emit = self._means.emit
        if attempt.claim.key in self._means.watchers:
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


def _verdict(outcome: Outcome, failure: Exception | None) -> Verdict:
    reply = failure.reply if isinstance(failure, PermanentFailure) else ""
    code = failure.code if isinstance(failure, (PermanentFailure, TransientFailure)) else 0
    return Verdict(outcome, reply, code)
