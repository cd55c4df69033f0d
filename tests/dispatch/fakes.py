"""A spool that a test holds in its hands: it keeps its promises, fails and waits when told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mailsvc.errors import LeaseLost, SpoolError
from mailsvc.interfaces import Claim, IContent, IDeliverer, IIncoming, ISpool
from mailsvc.message import (
    Address,
    Dead,
    Delivery,
    Done,
    Envelope,
    Outcome,
    Recipient,
    Retry,
    Route,
)

T = TypeVar("T")


@implementer(IContent)
class Content:
    """Ten octets."""

    size = 10

    def open(self) -> BinaryIO:
        """Return a reader."""
        return BytesIO(b"0123456789")


@dataclass
class Row:
    """A delivery in the spool."""

    delivery: Delivery
    due: float
    token: int = 0
    leased_until: float = 0.0
    dead: str = ""
    attempts: int = 0
    reason: str = ""


@implementer(ISpool)
class HeldSpool:
    """An in-memory :class:`ISpool` without intake.

    :ivar calls: the names of the methods called, with their main argument.
    :ivar failing: methods that raise this.
    :ivar held: methods whose answers wait in :attr:`waiting` until the test lets them go.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.queues: dict[str, dict[str, Row]] = {}
        self.calls: list[tuple[object, ...]] = []
        self.paused: dict[str, str] = {}
        self.failing: dict[str, Exception] = {}
        self.held: set[str] = set()
        self.waiting: list[Callable[[], None]] = []
        self.recorded: list[tuple[str, Outcome]] = []
        self.number = 0
        #: What one claim returns at most.
        self.most = 1000

    def add(self, destination: str, *, received_at: float | None = None) -> str:
        """Store a delivery, due at once; return its id."""
        self.number += 1
        now = self.clock.seconds()
        recipient = Recipient(Address("a", "example.com"), Route("*", (destination,)))
        envelope = Envelope(
            f"m{self.number}", now if received_at is None else received_at, None, (recipient,)
        )
        name = f"m{self.number}-1"
        delivery = Delivery(name, envelope, recipient, destination, 0, 10)
        row = Row(delivery, now)
        self.rows[name] = row
        self.queues.setdefault(destination, {})[name] = row
        return name

    def release(self) -> None:
        """Let the held answers go, in order."""
        waiting, self.waiting = self.waiting, []
        for go in waiting:
            go()

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(call[0] == method for call in self.calls)

    def _answer(self, method: str, work: Callable[[], T], *told: object) -> Deferred[T]:
        self.calls.append((method, *told))
        if method not in self.held:
            if method in self.failing:
                raise self.failing[method]
            return succeed(work())
        answer: Deferred[T] = Deferred()

        def go() -> None:
            try:
                if method in self.failing:
                    raise self.failing[method]
                result = work()
            except Exception as error:
                answer.errback(error)
            else:
                answer.callback(result)

        self.waiting.append(go)
        return answer

    def begin(self, envelope: Envelope, stuffed: bool) -> IIncoming:
        """Take nothing in."""
        raise SpoolError("this spool takes nothing in")

    def _row(self, claim: Claim) -> Row:
        row = self.rows.get(claim.delivery.id)
        if row is None or row.token != claim.token or row.leased_until <= self.clock.seconds():
            raise LeaseLost("stale")
        return row

    async def claim(self, destination: str, limit: int, lease: float) -> Sequence[Claim]:
        """Claim what is due, the oldest first."""

        def work() -> Sequence[Claim]:
            now = self.clock.seconds()
            claims: list[Claim] = []
            for row in self.queues.get(destination, {}).values():
                if len(claims) >= min(limit, self.most) or destination in self.paused:
                    break
                if not row.dead and row.due <= now and row.leased_until <= now:
                    row.token += 1
                    row.leased_until = now + lease
                    delivery = replace(row.delivery, attempt=row.attempts + 1)
                    claims.append(Claim(delivery, row.token, now + lease))
            return claims

        return await self._answer("claim", work, destination, limit)

    async def next_due(self, destination: str) -> float | None:
        """Return when the next delivery that is not leased is due."""

        def work() -> float | None:
            now = self.clock.seconds()
            dues = [
                max(row.due, row.leased_until if row.leased_until > now else 0)
                for row in self.queues.get(destination, {}).values()
                if not row.dead
            ]
            return min(dues, default=None)

        return await self._answer("next_due", work, destination)

    async def extend(self, claim: Claim, seconds: float) -> Claim:
        """Lengthen a lease."""

        def work() -> Claim:
            row = self._row(claim)
            row.leased_until = self.clock.seconds() + seconds
            return Claim(claim.delivery, claim.token, row.leased_until)

        return await self._answer("extend", work, claim.delivery.id)

    async def record(self, claim: Claim, outcome: Outcome) -> None:
        """Store an outcome."""

        def work() -> None:
            row = self._row(claim)
            self.recorded.append((claim.delivery.id, outcome))
            row.leased_until = 0
            if isinstance(outcome, Done):
                del self.rows[claim.delivery.id]
                del self.queues[claim.delivery.destination][claim.delivery.id]
            elif isinstance(outcome, Dead):
                row.dead = outcome.reason
            elif isinstance(outcome, Retry):
                row.due = outcome.at
                row.reason = outcome.reason
                row.attempts += outcome.spent

        return await self._answer("record", work, claim.delivery.id)

    async def open(self, message_id: str) -> IContent:
        """Return the content."""
        return await self._answer("open", Content, message_id)

    async def pause(self, destination: str, reason: str) -> None:
        """Pause."""
        return await self._answer(
            "pause", lambda: self.paused.update({destination: reason}), destination
        )

    async def resume(self, destination: str) -> bool:
        """Resume."""
        return self.paused.pop(destination, None) is not None

    async def quarantine(self, message_id: str, reason: str) -> None:
        """Set nothing aside."""
        raise SpoolError("nothing is unreadable here")


@implementer(IDeliverer)
class Receiver:
    """A deliverer whose answers the test decides.

    :ivar answer: what each call does: None succeeds at once, an exception is raised, ``"wait"``
        waits until the test fires what stands in :attr:`open`.
    """

    def __init__(self, answer: Exception | str | None = None) -> None:
        self.answer = answer
        self.seen: list[Delivery] = []
        self.open: dict[str, Deferred[None]] = {}
        self.cancelled: list[str] = []

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """Take a delivery."""
        self.seen.append(delivery)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "wait":
            waiting: Deferred[None] = Deferred(lambda _: self.cancelled.append(delivery.id))
            self.open[delivery.id] = waiting
            try:
                await waiting
            finally:
                del self.open[delivery.id]

    def finish(self) -> None:
        """Let all that waits succeed."""
        for waiting in tuple(self.open.values()):
            waiting.callback(None)

    def fail(self, error: Exception) -> None:
        """Let all that waits fail."""
        for waiting in tuple(self.open.values()):
            waiting.errback(error)
