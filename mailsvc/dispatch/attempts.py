"""The attempts of one destination that are under way: their time limits and their leases."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailsvc.dispatch.destination import Destination
from mailsvc.dispatch.means import Means
from mailsvc.dispatch.reasons import Stopped, reason_of
from mailsvc.errors import LeaseLost, TransientFailure
from mailsvc.events import Alert
from mailsvc.interfaces import Claim, IContent, IGroupDeliverer
from mailsvc.message import Delivery

#: An attempt is cancelled this long before its lease ends, in parts of the lease; as long is waited
#: after an extension that failed.
_MARGIN = 0.05


class Attempt:
    """An attempt at one delivery.

    Not a dataclass: the constructor of one is not compiled, and took a twentieth of a delivery.

    :ivar began: when; and ``deadline``: when it is cancelled.
    :ivar renew_at: when its lease is extended.
    :ivar work: what to cancel; None until the attempt first waits, and for one of a group.
    :ivar extending: fires when the extension of the lease that is under way has ended.
    :ivar cause: why it was cancelled.
    :ivar settled: its outcome is decided; what the deliverer does from now on changes nothing.
    """

    __slots__ = (
        "began",
        "cause",
        "claim",
        "deadline",
        "destination",
        "extending",
        "renew_at",
        "settled",
        "work",
    )

    def __init__(
        self, claim: Claim, destination: Destination, began: float, renew_at: float
    ) -> None:
        self.claim = claim
        self.destination = destination
        self.began = began
        self.deadline = began + destination.timeout
        self.renew_at = renew_at
        self.work: Deferred[None] | None = None
        self.extending: Deferred[None] | None = None
        self.cause: Exception | None = None
        self.settled = False


class Ends(Protocol):
    """What is told of the ends of attempts."""

    def went_well(self, attempt: Attempt) -> bool:
        """Take an attempt that succeeded, or say that it is one for :meth:`settle`."""

    def settle(
        self, attempt: Attempt, failure: Exception | None
    ) -> Coroutine[Deferred[Any], Any, None]:
        """Decide and record what became of an attempt, given its failure or None."""


class Attempts:
    """The attempts of one destination."""

    def __init__(self, name: str, means: Means, ends: Ends) -> None:
        self._name = name
        self._means = means
        self._ends = ends
        #: In the order of their beginning.
        self._running: dict[Attempt, None] = {}
        self._guard: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, claim: Claim, destination: Destination) -> None:
        """Attempt a delivery."""
        (attempt,) = self._begun([claim], destination)
        attempt.work = self._means.run(self._attempt(attempt), claim.delivery.id, self._name)
        self._guard_all(attempt)

    def begin_group(self, claims: Sequence[Claim], destination: Destination) -> None:
        """Attempt deliveries together; the destination's deliverer takes groups."""
        if claims:
            attempts = self._begun(claims, destination)
            self._means.run(self._attempt_group(attempts), claims[0].delivery.id, self._name)
            self._guard_all(attempts[0])

    def _begun(self, claims: Sequence[Claim], destination: Destination) -> list[Attempt]:
        now = self._means.clock.seconds()
        renew_at = now + self._means.lease / 2
        attempts = [Attempt(claim, destination, now, renew_at) for claim in claims]
        for attempt in attempts:
            self._running[attempt] = None
        return attempts

    def _guard_all(self, attempt: Attempt) -> None:
        if not attempt.settled and self._guard is None:
            # Later attempts have later times, so this one timer need never move.
            self._guard_at(min(attempt.deadline, attempt.renew_at))

    def cancel(self) -> None:
        """End all attempts, and their timer; their deliveries are released unspent."""
        for attempt in tuple(self._running):
            self._cancel(attempt, Stopped("the service stopped during the attempt"))
        self._cancel_guard()

    async def _attempt(self, attempt: Attempt) -> None:
        delivery = attempt.claim.delivery
        spool = self._means.spool
        message_id = delivery.envelope.id
        failure: Exception | None = None
        try:
            content = spool.at_hand(message_id)
            if content is None:
                content = await spool.open(message_id)
            await attempt.destination.deliverer.deliver(delivery, content)
        except Exception as error:
            failure = error
        self._end(attempt, failure)

    async def _attempt_group(self, attempts: Sequence[Attempt]) -> None:
        """Attempt several deliveries; its plain twin is :meth:`_attempt` for each."""
        spool = self._means.spool
        deliverer = IGroupDeliverer(attempts[0].destination.deliverer)
        given: list[Attempt] = []
        group: list[tuple[Delivery, IContent]] = []
        for attempt in attempts:
            delivery = attempt.claim.delivery
            message_id = delivery.envelope.id
            try:
                content = spool.at_hand(message_id)
                if content is None:
                    content = await spool.open(message_id)
                group.append((delivery, content))
            except Exception as error:
                self._end(attempt, error)
            else:
                given.append(attempt)
        failures: Sequence[Exception | None]
        try:
            failures = await deliverer.deliver_group(group) if group else ()
            if len(failures) != len(given):
                raise ValueError(f"{len(failures)} answers for {len(given)} deliveries")
        except Exception as error:
            failures = [error] * len(given)
        for attempt, failure in zip(given, failures, strict=True):
            self._end(attempt, failure)

    def _end(self, attempt: Attempt, failure: Exception | None) -> None:
        """End an attempt, unless it was cancelled and has ended by that."""
        if attempt.settled:
            return
        attempt.settled = True
        del self._running[attempt]
        if failure is not None:
            failure = attempt.cause or failure
        elif self._ends.went_well(attempt):
            return
        name = attempt.claim.delivery.id
        self._means.run(self._ends.settle(attempt, failure), name, self._name)

    def _cancel(self, attempt: Attempt, cause: Exception) -> None:
        attempt.cause = cause
        if attempt.work is not None:
            attempt.work.cancel()
        # Where the deliverer goes on all the same, what it does from now on is not listened to.
        self._end(attempt, cause)

    def _guard_at(self, when: float) -> None:
        clock = self._means.clock
        self._guard = clock.callLater(max(0.0, when - clock.seconds()), self._watch)

    def _cancel_guard(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _watch(self) -> None:
        """Cancel the attempts whose time or lease ends, extend the leases of the others."""
        self._guard = None
        now = self._means.clock.seconds()
        margin = self._means.lease * _MARGIN
        for attempt in tuple(self._running):
            if now >= attempt.deadline:
                seconds = attempt.deadline - attempt.began
                self._cancel(attempt, TransientFailure(f"not done within {seconds:.0f} s"))
            elif now >= attempt.claim.expires_at - margin:
                self._cancel(attempt, TransientFailure("its lease could not be extended"))
            elif now >= attempt.renew_at and attempt.extending is None:
                attempt.renew_at = now + margin
                attempt.extending = self._means.run(
                    self._extend(attempt), attempt.claim.delivery.id, self._name
                )
        if self._running:
            self._guard_at(
                min(
                    min(attempt.deadline, max(attempt.renew_at, now + margin))
                    for attempt in self._running
                )
            )

    async def _extend(self, attempt: Attempt) -> None:
        lease = self._means.lease
        try:
            attempt.claim = await self._means.spool.extend(attempt.claim, lease)
            attempt.renew_at = self._means.clock.seconds() + lease / 2
        except LeaseLost as error:
            attempt.extending = None
            if not attempt.settled:
                self._cancel(attempt, error)
        except Exception as error:
            # The next look asks again, until the lease comes to its end.
            name = attempt.claim.delivery.id
            self._means.emit(Alert(f"cannot extend the lease of {name}: {reason_of(error)}"))
        finally:
            attempt.extending = None
