"""A spool that a test holds in its hands: it keeps its promises, fails and waits when told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mailsvc.errors import LeaseLost, SpoolError, SpoolFull
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
from mailsvc.spool.extent import unstuffed
from mailsvc.testing import MemoryContent

T = TypeVar("T")


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


@implementer(IIncoming)
class HeldIncoming:
    """A message on its way in."""

    def __init__(self, spool: HeldSpool, envelope: Envelope, stuffed: bool) -> None:
        self.spool = spool
        self.envelope = envelope
        self.stuffed = stuffed
        self.octets: bytearray | None = bytearray()

    def write(self, data: bytes | memoryview, dots: int | None = None) -> None:
        """Append octets."""
        if self.octets is not None:
            self.octets += data

    async def commit(self) -> str:
        """Keep the message."""
        return self._keep()

    def store(self, told: Callable[[Exception | None], None]) -> None:
        """Keep the message."""
        try:
            self._keep()
        except SpoolError as error:
            told(error)
        else:
            told(None)

    def _keep(self) -> str:
        if self.octets is None:
            raise SpoolError("the message has ended already")
        octets, self.octets = bytes(self.octets), None
        self.spool.check()
        self.spool.keep(self.envelope, unstuffed(octets) if self.stuffed else octets)
        return self.envelope.id

    def abort(self) -> None:
        """Forget the message."""
        self.octets = None


@implementer(ISpool)
class HeldSpool:
    """An :class:`ISpool` in memory.

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
        self.contents: dict[str, bytes] = {}
        #: What one claim returns at most.
        self.most = 1000
        self.turn = 0
        #: Whether there is no room for more mail.
        self.full = False

    def add(self, destination: str, *, received_at: float | None = None) -> str:
        """Store a delivery, due at once; return its id."""
        self.number += 1
        now = self.clock.seconds()
        recipient = Recipient(Address("a", "example.com"), Route("*", (destination,)))
        envelope = Envelope(
            f"m{self.number}", now if received_at is None else received_at, None, (recipient,)
        )
        self.keep(envelope, b"0123456789")
        return f"m{self.number}-1"

    def keep(self, envelope: Envelope, octets: bytes) -> None:
        """Store a message and its deliveries."""
        self.contents[envelope.id] = octets
        now = self.clock.seconds()
        number = 0
        # A recipient that is given twice counts once.
        for recipient in {each.address: each for each in envelope.recipients}.values():
            for destination in recipient.route.destinations:
                number += 1
                name = f"{envelope.id}-{number}"
                delivery = Delivery(name, envelope, recipient, destination, 0, len(octets))
                row = Row(delivery, now)
                self.rows[name] = row
                self.queues.setdefault(destination, {})[name] = row

    def restart(self) -> None:
        """Let go of every claim, as a spool that is closed and opened again does."""
        for row in self.rows.values():
            row.leased_until = 0

    def release(self) -> None:
        """Let the held answers go, in order."""
        waiting, self.waiting = self.waiting, []
        for go in waiting:
            go()

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(call[0] == method for call in self.calls)

    def _answer(self, method: str, work: Callable[[], T], *told: object) -> Deferred[T]:
        if told != ("finish",):
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
        """Take a message in."""
        if not any(recipient.route.destinations for recipient in envelope.recipients):
            raise SpoolError("the message has no destination")
        self.check()
        return HeldIncoming(self, envelope, stuffed)

    def check(self) -> None:
        """Refuse mail if the test says that there is no room."""
        if self.full:
            raise SpoolFull("there is no room")

    def _waiting(self, destination: str) -> list[Row]:
        now = self.clock.seconds()
        return [
            row
            for row in self.queues.get(destination, {}).values()
            if not row.dead and row.leased_until <= now
        ]

    def _row(self, claim: Claim) -> Row:
        row = self.rows.get(claim.delivery.id)
        if row is None or row.token != claim.token or row.leased_until <= self.clock.seconds():
            raise LeaseLost("stale")
        return row

    async def claim(self, destination: str, limit: int, lease: float) -> Sequence[Claim]:
        """Claim what is due: of any four, three of the newest and one of the oldest."""

        def work() -> Sequence[Claim]:
            now = self.clock.seconds()
            claims: list[Claim] = []
            rows = [] if destination in self.paused else self._waiting(destination)
            due = sorted((row for row in rows if row.due <= now), key=lambda row: row.due)
            while due and len(claims) < min(limit, self.most):
                self.turn += 1
                old = self.turn % 4 == 0
                row = due[0] if old else next(row for row in due if row.due == due[-1].due)
                due.remove(row)
                row.token += 1
                row.leased_until = now + lease
                delivery = replace(row.delivery, attempt=row.attempts + 1)
                claims.append(Claim(delivery, row.token, now + lease))
            return claims

        return await self._answer("claim", work, destination, limit)

    async def next_due(self, destination: str) -> float | None:
        """Return when the next delivery that nobody holds is due."""

        def work() -> float | None:
            if destination in self.paused:
                return None
            return min((row.due for row in self._waiting(destination)), default=None)

        return await self._answer("next_due", work, destination)

    async def extend(self, claim: Claim, seconds: float) -> Claim:
        """Lengthen a lease."""

        def work() -> Claim:
            row = self._row(claim)
            row.leased_until = self.clock.seconds() + seconds
            return Claim(claim.delivery, claim.token, row.leased_until)

        return await self._answer("extend", work, claim.delivery.id)

    def _record(self, claim: Claim, outcome: Outcome) -> None:
        row = self._row(claim)
        self.recorded.append((claim.delivery.id, outcome))
        row.leased_until = 0
        if isinstance(outcome, Done):
            del self.rows[claim.delivery.id]
            del self.queues[claim.delivery.destination][claim.delivery.id]
            message_id = claim.delivery.envelope.id
            if all(each.delivery.envelope.id != message_id for each in self.rows.values()):
                del self.contents[message_id]
        elif isinstance(outcome, Dead):
            row.dead = outcome.reason
        elif isinstance(outcome, Retry):
            row.due = outcome.at
            row.reason = outcome.reason
            row.attempts += outcome.spent

    async def record(self, claim: Claim, outcome: Outcome) -> None:
        """Store an outcome."""
        return await self._answer("record", lambda: self._record(claim, outcome), claim.delivery.id)

    async def finish(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Store that deliveries are done; it is held, and fails, as ``record`` is and does."""

        def work() -> Sequence[Claim]:
            stale = []
            for claim in claims:
                try:
                    self._record(claim, Done())
                except LeaseLost:
                    stale.append(claim)
            return stale

        self.calls += [("record", claim.delivery.id) for claim in claims]
        return await self._answer("record", work, "finish")

    async def open(self, message_id: str) -> IContent:
        """Return the content."""

        def work() -> IContent:
            if message_id not in self.contents:
                raise SpoolError(f"there is no message {message_id}")
            return MemoryContent(self.contents[message_id])

        return await self._answer("open", work, message_id)

    def at_hand(self, message_id: str) -> IContent | None:
        """Return the content, unless the test decides about ``open``."""
        if message_id not in self.contents or "open" in {*self.failing, *self.held}:
            return None
        return MemoryContent(self.contents[message_id])

    async def pause(self, destination: str, reason: str) -> None:
        """Pause."""
        return await self._answer(
            "pause", lambda: self.paused.update({destination: reason}), destination
        )

    async def resume(self, destination: str) -> bool:
        """Resume."""
        for row in self._waiting(destination):
            row.due = self.clock.seconds()
        return self.paused.pop(destination, None) is not None

    async def quarantine(self, message_id: str, reason: str) -> None:
        """Make dead letters of a message's deliveries."""
        for row in self.rows.values():
            if row.delivery.envelope.id == message_id:
                row.dead = reason
                row.token += 1


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
