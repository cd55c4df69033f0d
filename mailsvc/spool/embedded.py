"""The spool of one machine: rows in SQLite, contents in segments and files beside it.

This module puts the parts together; each part says what it is for.  All state in memory belongs to
the reactor's thread; everything that blocks is done by the writer's thread (whatever changes rows
or segments) and by a few others (content files, reading, questions).
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import classImplements

from mailsvc.errors import LeaseLost, SpoolError
from mailsvc.events import Alert, Emit, Event, Notice
from mailsvc.interfaces import Claim, ISpool
from mailsvc.message import Delivery, Done, Envelope, Outcome, Recipient, Retry
from mailsvc.spool import operators, process
from mailsvc.spool.accepting import Accepting
from mailsvc.spool.claims import Claims, Fresh
from mailsvc.spool.content import Contents, Rows, Shelf, StoredContent
from mailsvc.spool.extent import HEADER_SIZE
from mailsvc.spool.files import Files
from mailsvc.spool.held import Held
from mailsvc.spool.ids import delivery_id, is_message_id
from mailsvc.spool.messages import Memory
from mailsvc.spool.opening import Opening
from mailsvc.spool.oversight import Oversight
from mailsvc.spool.process import Presence
from mailsvc.spool.reception import Incoming, Reception
from mailsvc.spool.records import Claimed
from mailsvc.spool.rounds import Rounds
from mailsvc.spool.rows import Transaction
from mailsvc.spool.schema import NUMBER_BITS, Layout
from mailsvc.spool.segments import Segments
from mailsvc.spool.upkeep import Upkeep
from mailsvc.spool.usage import Usage
from mailsvc.spool.view import MIB, SpoolLimits
from mailsvc.spool.workshop import Workshop
from mailsvc.spool.writer import SpoolReactor, Writer
from mailsvc.turnend import TurnEnd


class EmbeddedSpool(Oversight):
    """See :class:`mailsvc.interfaces.ISpool`; the queries of :class:`Oversight` are beside it.

    Several processes may open the same directory, which is on a local disk.

    :param directory: made if missing, mode 0700.
    :param reactor: for ``callFromThread`` and ``callLater``.
    :param now: seconds since the epoch; called in several threads.
    :param files: the system calls, for tests.
    :param segment_size: octets of a segment; less if the spool may hold less than eight of them.
    :param spill_above: octets of a content beyond which it has a file of its own.
    :param arriving: counts what has come from peers so far: while more comes, more may be to store.
    :param turn_end: the reactor's, shared with whoever else has one.
    """

    def __init__(
        self,
        directory: str,
        reactor: SpoolReactor,
        *,
        limits: SpoolLimits,
        emit: Emit,
        now: Callable[[], float] = time.time,
        files: Files | None = None,
        segment_size: int = 64 * MIB,
        spill_above: int = 256 << 10,
        arriving: Callable[[], int] = lambda: 0,
        turn_end: TurnEnd | None = None,
    ) -> None:
        self._reactor = reactor
        self._emit = emit
        self._now = now
        self._arriving = arriving
        self._turn_end = turn_end or TurnEnd(reactor.callLater)
        self._files = files = files or Files()
        self._layout = layout = Layout(directory)
        self._usage = usage = Usage(limits)
        self._presence = Presence(layout, files)
        self._workshop = workshop = Workshop(reactor)
        self._claims = claims = Claims(now)
        self._shelf = Shelf(layout, files)
        size = min(segment_size, max(limits.octets // 8, 1 << 16))
        self._segments = Segments(
            layout,
            files,
            self._presence.number,
            workshop.executor,
            usage,
            self._emit_anywhere,
            size,
        )
        self._opening = opening = Opening(
            layout, files, self._presence, self._segments, self._emit_anywhere
        )
        self._rows = rows = Rows(opening.connect)
        self._memory = Memory(self._presence.number, secrets.randbits(60))
        upkeep = Upkeep(layout, files, self._shelf, self._segments, self._presence)
        self._rounds = Rounds(reactor, workshop, upkeep, claims, usage, self._shelf, emit, now)
        self._reception = Reception(
            layout,
            files,
            self._presence.number,
            workshop.executor,
            reactor,
            usage,
            workshop.submit,
            self._accepted,
            self._failed,
            min(spill_above, size // 4 - HEADER_SIZE),
        )
        self._contents = Contents(self._shelf, rows, claims, workshop, self._emit_anywhere)
        super().__init__(workshop, rows, claims, usage, now)

    # Life

    def change_limits(self, limits: SpoolLimits) -> None:
        """Go by other limits from now on."""
        self._usage.limits = limits
        self._reception.memory.limit = limits.content_memory

    def start(self) -> Deferred[None]:
        """Open the directory, recover what was left in it, and begin.

        :raises SpoolError: it cannot be used.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        failure: Exception | None = None
        try:
            held, orphans = await self._workshop.in_thread(
                self._opening.enter, self._memory, self._now
            )
        except (OSError, sqlite3.Error, SpoolError) as error:
            failure = error
        if failure is not None:
            await self._workshop.in_thread(self._presence.leave)
            self._workshop.close()
            raise SpoolError(f"the spool {self._layout.directory}: {failure}") from failure
        if held:
            self._emit(Notice(f"spool: {held} deliveries were under way when a process ended"))
        self._workshop.writer = Writer(
            self._reactor,
            self._opening.connect,
            self._segments,
            self._memory,
            self._now,
            self._emit_anywhere,
            self._shelf.remove,
            self._arriving,
            self._turn_end,
        )
        self._workshop.writer.start()
        await self._workshop.change(lambda transaction: None)
        await self._rounds.beat()
        self._workshop.executor.submit(self._opening.sweep, self._rows, self._shelf, orphans)
        self._rounds.start()

    def stop(self) -> Deferred[None]:
        """Finish what was asked, let go of what is held, and close."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._rounds.stop()
        held = self._claims.leave()

        def leave(transaction: Transaction) -> None:
            transaction.release(held)
            process.unregister(transaction)

        try:
            await self._workshop.change(leave)
        except SpoolError as error:
            # The next process that starts does it instead.
            self._emit(Notice(f"spool: stopped without a last commit: {error}"))
        writer, self._workshop.writer = self._workshop.writer, None
        if writer is not None:
            await self._workshop.in_thread(writer.stop)
            await self._workshop.in_thread(self._rows.close)
            await self._workshop.in_thread(self._presence.leave)
        self._workshop.close()

    def _emit_anywhere(self, event: Event) -> None:
        self._reactor.callFromThread(self._emit, event)

    # Taking in

    def check(self, destinations: Iterable[str]) -> None:
        """Check, without any waiting, that mail for ``destinations`` can be taken now.

        :raises SpoolFull: the spool, the disk or a destination's share is full.
        """
        self._usage.check(destinations)

    def begin(self, envelope: Envelope, stuffed: bool) -> Incoming:
        """Start to take in a message; see :class:`mailsvc.interfaces.ISpool`."""
        if not is_message_id(envelope.id):
            raise SpoolError(f"{envelope.id!r} cannot be a message's id")
        destinations = {
            name for recipient in envelope.recipients for name in recipient.route.destinations
        }
        if not destinations:
            raise SpoolError("the message has no destination")
        self._usage.check(destinations)
        return Incoming(self._reception, envelope, stuffed, destinations, self._claims.plan)

    def _failed(self, message: Accepting) -> None:
        for planned in message.plan:
            if planned.held:
                self._claims.failed(planned.destination)

    def _accepted(self, message: Accepting, envelope: Envelope) -> None:
        claims = self._claims
        stored = message.stored()
        now = self._now()
        tokens = iter(message.tokens)
        for number, planned in enumerate(message.plan, 1):
            self._usage.hold(planned.destination, message.length)
            if not planned.held:
                claims.queued(planned.destination, now)
                continue
            key = message.seq << NUMBER_BITS | number
            held = Held(key, next(tokens), planned.destination, message.length)
            id = delivery_id(message.message_id, number)
            recipient = envelope.recipients[planned.recipient]
            delivery = Delivery(id, envelope, recipient, planned.destination, 1, message.size)
            claims.add(planned, Fresh(held, delivery, now), message, stored)

    # Handing out

    def claim(self, destination: str, limit: int, lease: float) -> Deferred[Sequence[Claim]]:
        """Take due deliveries; see :class:`mailsvc.interfaces.ISpool`."""
        if self._workshop.writer is None:
            return fail(SpoolError("the spool does not run"))
        claims = self._claims
        if self._rounds.silent:
            # Ask, before anything is given out, what this process still holds.
            return Deferred.fromCoroutine(self._claim_after_beat(destination, limit, lease))
        self._release(claims.expired())
        fresh, newest, oldest = claims.share(destination, limit)
        taken = claims.take(destination, fresh, lease)
        if not newest and not oldest:
            return succeed(taken)
        found: list[Claimed] = []

        def search(transaction: Transaction) -> float | None:
            found[:] = transaction.claim(destination, newest, oldest)
            return transaction.next_due(destination)

        def hand_out(due: float | None) -> Sequence[Claim]:
            claims.searched(destination, due)
            handed = taken + [self._claimed(item, lease) for item in found]
            # The rows may have had less than their share.
            return handed + claims.take(destination, limit - len(handed), lease)

        def failed(failure: Failure) -> Failure:
            # A commit that failed may have been made all the same.
            claims.owe(item.held() for item in found)
            return failure

        answered = self._workshop.change_then(search, hand_out).addErrback(failed)
        if taken:
            # What was taken from memory is good, whatever the disk says.
            answered.addErrback(lambda _: taken)
        return answered

    async def _claim_after_beat(
        self, destination: str, limit: int, lease: float
    ) -> Sequence[Claim]:
        await self._rounds.beat()
        return await self.claim(destination, limit, lease)

    def claim_message(self, message_id: str, lease: float) -> Sequence[Claim]:
        """Take the deliveries of synchronous routes of a message that was just committed.

        ``claim`` gives these only when nobody has taken them for 30 seconds.
        """
        return self._claims.take_reserved(message_id, lease)

    def _claimed(self, item: Claimed, lease: float) -> Claim:
        recipient: Recipient = item.envelope.recipients[item.recipient]
        delivery = Delivery(
            item.id,
            item.envelope,
            recipient,
            item.destination,
            item.attempts + 1,
            item.stored.size,
        )
        self._claims.know(item.stored)
        return self._claims.claimed(item.held(), delivery, lease)

    def _release(self, held: Sequence[Held]) -> None:
        """Queue deliveries again whose leases ended."""
        if held:
            now = self._now()
            for item in held:
                self._claims.queued(item.destination, now)
            self._workshop.change(lambda transaction: transaction.release(held)).addErrback(
                self._rounds.failed, held
            )

    def next_due(self, destination: str) -> Deferred[float | None]:
        """Return when something is due; see :class:`mailsvc.interfaces.ISpool`."""
        known, due = self._claims.due(destination)
        if known:
            return succeed(due)

        def found(due: float | None) -> float | None:
            self._claims.searched(destination, due)
            return due

        return self._workshop.change_then(
            lambda transaction: transaction.next_due(destination), found
        )

    def extend(self, claim: Claim, seconds: float) -> Deferred[Claim]:
        """Lengthen a lease; see :class:`mailsvc.interfaces.ISpool`."""
        lease = self._claims.lease(claim.token)
        if lease is None:
            return fail(LeaseLost(f"the lease of {claim.delivery.id} has ended"))
        held = lease.held

        def extended(valid: bool) -> Claim:
            lease = self._claims.lease(claim.token)
            if not valid or lease is None:
                self._claims.end(claim.token)
                raise LeaseLost(f"the lease of {claim.delivery.id} has ended")
            expires_at = self._claims.extend(lease, seconds)
            return Claim(claim.delivery, claim.token, expires_at)

        return self._workshop.change_then(lambda transaction: transaction.holds(held), extended)

    def record(self, claim: Claim, outcome: Outcome) -> Deferred[None]:
        """Store an outcome; see :class:`mailsvc.interfaces.ISpool`."""
        lease = self._claims.lease(claim.token)
        if lease is None:
            return fail(LeaseLost(f"the lease of {claim.delivery.id} has ended"))
        held = lease.held

        def recorded(valid: bool) -> None:
            self._claims.end(claim.token)
            if not valid:
                raise LeaseLost(f"the lease of {claim.delivery.id} has ended")
            if isinstance(outcome, Done):
                self._usage.hold(held.destination, -held.octets)
            elif isinstance(outcome, Retry):
                self._claims.queued(held.destination, outcome.at)

        return self._workshop.change_then(
            lambda transaction: transaction.record(held, outcome), recorded
        )

    def finish(self, claims: Sequence[Claim]) -> Deferred[Sequence[Claim]]:
        """Store that deliveries are done; see :class:`mailsvc.interfaces.ISpool`."""
        leases = [self._claims.lease(claim.token) for claim in claims]
        held = [lease.held for lease in leases if lease is not None]

        def finished(valid: Sequence[bool]) -> Sequence[Claim]:
            for item, was_valid in zip(held, valid, strict=True):
                self._claims.end(item.token)
                if was_valid:
                    self._usage.hold(item.destination, -item.octets)
            if len(held) == len(claims) and False not in valid:
                return []
            done = {item.token for item, was_valid in zip(held, valid, strict=True) if was_valid}
            return [claim for claim in claims if claim.token not in done]

        return self._workshop.change_then(lambda transaction: transaction.finish(held), finished)

    def open(self, message_id: str) -> Deferred[StoredContent]:
        """Return a content; see :class:`mailsvc.interfaces.ISpool`."""
        return self._contents.open(message_id)

    def at_hand(self, message_id: str) -> StoredContent | None:
        """Return a content, if it is known; see :class:`mailsvc.interfaces.ISpool`."""
        return self._contents.at_hand(message_id)

    def quarantine(self, message_id: str, reason: str) -> Deferred[None]:
        """Set a message aside; see :class:`mailsvc.interfaces.ISpool`."""

        def set_aside(_: int) -> None:
            self._emit(Alert(f"spool: message {message_id} is set aside: {reason}"))

        return self._workshop.change_then(
            lambda transaction: operators.quarantine(transaction, message_id, reason), set_aside
        )


classImplements(EmbeddedSpool, ISpool)
