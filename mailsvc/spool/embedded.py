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
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsvc.errors import LeaseLost, SpoolError
from mailsvc.events import Alert, Emit, Event, Notice
from mailsvc.interfaces import Claim, ISpool
from mailsvc.message import Delivery, Done, Envelope, Outcome, Recipient, Retry
from mailsvc.spool import operators, process
from mailsvc.spool.claims import Claims, Fresh
from mailsvc.spool.content import Rows, Shelf, StoredContent
from mailsvc.spool.extent import HEADER_SIZE, Stored
from mailsvc.spool.files import Files
from mailsvc.spool.ids import delivery_id, split_id
from mailsvc.spool.oversight import Oversight
from mailsvc.spool.process import Presence, StartLock
from mailsvc.spool.reception import Incoming, Reception
from mailsvc.spool.rows import Accepting, Claimed, Held, Memory, Planned, Transaction
from mailsvc.spool.schema import NUMBER_BITS, NUMBER_MASK, Layout, connect, make_database
from mailsvc.spool.segments import Segments
from mailsvc.spool.upkeep import Report, Upkeep
from mailsvc.spool.usage import Usage
from mailsvc.spool.view import MIB, SpoolLimits
from mailsvc.spool.workshop import SpoolReactor, Workshop
from mailsvc.spool.writer import Writer

#: Seconds between rounds of upkeep, and between those that look for contents to move.
_ROUND = 1.0
_CLEAR = 10.0
#: Content files that are looked up at once when a start removes those that belong to nobody.
_SWEPT = 500


@implementer(ISpool)
class EmbeddedSpool(Oversight):
    """See :class:`mailsvc.interfaces.ISpool`; the queries of :class:`Oversight` are beside it.

    Several processes may open the same directory, which is on a local disk.

    :param directory: made if missing, mode 0700.
    :param reactor: for ``callFromThread`` and ``callLater``.
    :param now: seconds since the epoch; called in several threads.
    :param files: the system calls, for tests.
    :param segment_size: octets of a segment; less if the spool may hold less than eight of them.
    :param spill_above: octets of a content beyond which it has a file of its own.
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
    ) -> None:
        self._reactor = reactor
        self._emit = emit
        self._now = now
        self._files = files = files or Files()
        self._layout = layout = Layout(directory)
        self._usage = usage = Usage(limits)
        self._presence = Presence(layout, files)
        self._workshop = workshop = Workshop(reactor)
        self._claims = claims = Claims(now)
        self._rows = rows = Rows(self._connect)
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
        self._memory = Memory(self._presence.number, secrets.randbits(60))
        self._upkeep = Upkeep(layout, files, self._shelf, self._segments, self._presence)
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
        super().__init__(workshop, rows, claims, usage, now)
        self._round: IDelayedCall | None = None
        self._rounding = False
        self._last_beat = 0.0
        self._next_clear = 0.0

    # Life

    def change_limits(self, limits: SpoolLimits) -> None:
        """Go by other limits from now on."""
        self._usage.limits = limits

    def start(self) -> Deferred[None]:
        """Open the directory, recover what was left in it, and begin.

        :raises SpoolError: it cannot be used.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            held, orphans = await self._workshop.in_thread(self._enter)
        except (OSError, sqlite3.Error, SpoolError) as error:
            await self._workshop.in_thread(self._presence.leave)
            self._workshop.close()
            raise SpoolError(f"the spool {self._layout.directory}: {error}") from error
        if held:
            self._emit(Notice(f"spool: {held} deliveries were under way when a process ended"))
        self._workshop.writer = Writer(
            self._reactor,
            self._connect,
            self._segments,
            self._memory,
            self._now,
            self._emit_anywhere,
            self._remove,
        )
        self._workshop.writer.start()
        await self._workshop.change(lambda transaction: None)
        await self._upkept(beating=True, clearing=False)
        self._workshop.executor.submit(self._sweep, orphans)
        self._round = self._reactor.callLater(_ROUND, self._rounds)

    def _connect(self) -> sqlite3.Connection:
        return connect(self._layout, self._files)

    def _enter(self) -> tuple[int, list[str]]:
        """Come among the processes of the spool, and take over what the dead left; blocks."""
        self._layout.make(self._files)
        with StartLock(self._layout, self._files):
            self._presence.enter()
            make_database(self._layout, self._files)
            living, dead = self._presence.others()
            connection = self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                transaction = Transaction(connection, self._memory, self._now())
                process.register(transaction)
                held = process.inherit(transaction, living)
                connection.execute("COMMIT")
                self._segments.prepare(connection)
            finally:
                connection.close()
            self._presence.forget(dead)
            self._presence.sweep_temporaries(living)
            return held, self._presence.ownerless(living)

    def _sweep(self, names: Sequence[str]) -> None:
        """Remove content files that no message has; in a thread."""
        for start in range(0, len(names), _SWEPT):
            part = names[start : start + _SWEPT]
            try:
                found = self._rows.read(partial(_files_of, part))
            except SpoolError as error:
                self._emit_anywhere(Alert(f"spool: stale files stay for now: {error}"))
                return
            self._remove([name for name in part if name not in found])

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._files.remove(self._layout.own_file(name))

    def stop(self) -> Deferred[None]:
        """Finish what was asked, let go of what is held, and close."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._round is not None:
            self._round.cancel()
            self._round = None
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

    # Upkeep

    def _rounds(self) -> None:
        self._round = self._reactor.callLater(_ROUND, self._rounds)
        if self._rounding:
            return
        now = self._now()
        beating = now >= self._last_beat + process.BEAT_SECONDS
        clearing = now >= self._next_clear
        if clearing:
            self._next_clear = now + _CLEAR
        self._rounding = True
        Deferred.fromCoroutine(self._upkept(beating=beating, clearing=clearing)).addErrback(
            self._not_upkept
        ).addBoth(self._rounded)

    def _rounded(self, _: object) -> None:
        self._rounding = False

    def _not_upkept(self, failure: Failure) -> None:
        self._emit(Alert(f"spool: upkeep failed: {failure.getErrorMessage()}"))

    async def _upkept(self, *, beating: bool, clearing: bool) -> None:
        """Do a round of upkeep."""
        released = self._claims.expired() + self._claims.stale()
        now = self._now()
        report = await self._workshop.change_then(
            lambda transaction: self._upkeep.round(
                transaction, released, beating=beating, clearing=clearing
            ),
            self._reported,
        )
        if beating:
            self._last_beat = now
        if not report.alive:
            self._emit(Alert("spool: this process was silent for long, others took its deliveries"))
            self._claims.leave()
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
        await self._workshop.in_thread(self._remove, unwanted)
        for stored, reason in damaged:
            self._emit(Alert(f"spool: message {stored.message_id} is set aside: {reason}"))

    # Taking in

    def check(self, destinations: Iterable[str]) -> None:
        """Check, without any waiting, that mail for ``destinations`` can be taken now.

        :raises SpoolFull: the spool, the disk or a destination's share is full.
        """
        self._usage.check(destinations)

    def begin(self, envelope: Envelope, stuffed: bool) -> Incoming:
        """Start to take in a message; see :class:`mailsvc.interfaces.ISpool`."""
        named = split_id(envelope.id)
        if named is None or named[1] is not None:
            raise SpoolError(f"{envelope.id!r} cannot be a message's id")
        destinations = {
            name for recipient in envelope.recipients for name in recipient.route.destinations
        }
        if not destinations:
            raise SpoolError("the message has no destination")
        self._usage.check(destinations)
        return Incoming(self._reception, envelope, stuffed, destinations, self._plan)

    def _plan(self, envelope: Envelope) -> list[Planned]:
        hold = self._claims.hold
        plan = []
        seen: set[object] = set()
        several = len(envelope.recipients) > 1
        for index, recipient in enumerate(envelope.recipients):
            if several:
                # A recipient that is given twice counts once.
                if recipient.address in seen:
                    continue
                seen.add(recipient.address)
            for name in recipient.route.destinations:
                plan.append(Planned(index, name, hold(name)))
        return plan

    def _failed(self, message: Accepting) -> None:
        for planned in message.plan:
            if planned.held:
                self._claims.held(planned.destination)

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
            claims.held(planned.destination)
            key = message.seq << NUMBER_BITS | number
            held = Held(key, next(tokens), planned.destination, message.length)
            delivery = Delivery(
                delivery_id(message.message_id, number),
                envelope,
                envelope.recipients[planned.recipient],
                planned.destination,
                1,
                message.size,
            )
            claims.add(Fresh(held, delivery, now), stored)

    # Handing out

    def claim(self, destination: str, limit: int, lease: float) -> Deferred[Sequence[Claim]]:
        """Take due deliveries; see :class:`mailsvc.interfaces.ISpool`."""
        if self._workshop.writer is None:
            return fail(SpoolError("the spool does not run"))
        claims = self._claims
        if self._now() > self._last_beat + process.SILENT_SECONDS / 2:
            # Others may have taken what this process believes to hold: ask before giving it out.
            return Deferred.fromCoroutine(self._claim_after_beat(destination, limit, lease))
        self._release(claims.expired())
        fresh, newest, oldest = claims.share(destination, limit)
        taken = claims.take(destination, fresh, lease)
        if not newest and not oldest:
            return succeed(taken)

        def search(transaction: Transaction) -> tuple[list[Claimed], float | None]:
            found = transaction.claim(destination, newest, oldest)
            return found, transaction.next_due(destination)

        def hand_out(found: tuple[list[Claimed], float | None]) -> Sequence[Claim]:
            claims.searched(destination, found[1])
            return taken + [self._claimed(item, lease) for item in found[0]]

        answered = self._workshop.change_then(search, hand_out)
        if taken:
            # What was taken from memory is good, whatever the disk says.
            answered.addErrback(lambda _: taken)
        return answered

    async def _claim_after_beat(
        self, destination: str, limit: int, lease: float
    ) -> Sequence[Claim]:
        await self._upkept(beating=True, clearing=False)
        return await self.claim(destination, limit, lease)

    def claim_message(self, message_id: str, lease: float) -> Sequence[Claim]:
        """Take the deliveries of synchronous routes of a message that was just committed.

        ``claim`` gives these only when nobody has taken them for 30 seconds.
        """
        return self._claims.take_reserved(message_id, lease)

    def _claimed(self, item: Claimed, lease: float) -> Claim:
        recipient: Recipient = item.envelope.recipients[item.recipient]
        delivery = Delivery(
            delivery_id(item.stored.message_id, item.key & NUMBER_MASK),
            item.envelope,
            recipient,
            item.destination,
            item.attempts + 1,
            item.stored.size,
        )
        self._claims.know(item.stored)
        held = Held(item.key, item.token, item.destination, item.octets)
        return self._claims.claimed(held, delivery, lease)

    def _release(self, held: Sequence[Held]) -> None:
        """Queue deliveries again whose leases ended."""
        if held:
            now = self._now()
            for item in held:
                self._claims.queued(item.destination, now)
            # If that fails, they are released when this process ends.
            self._workshop.change(lambda transaction: transaction.release(held)).addErrback(
                self._not_upkept
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

    def open(self, message_id: str) -> Deferred[StoredContent]:
        """Return a content; see :class:`mailsvc.interfaces.ISpool`."""
        stored = self._claims.content(message_id)
        if stored is not None:
            return succeed(self._content(stored))
        return Deferred.fromCoroutine(self._open(message_id))

    async def _open(self, message_id: str) -> StoredContent:
        stored = await self._workshop.in_thread(self._rows.find, message_id)
        if stored is None:
            raise SpoolError(f"there is no message {message_id}")
        return self._content(stored)

    def _content(self, stored: Stored) -> StoredContent:
        return StoredContent(self._shelf, stored, self._rows.find, self._set_aside)

    def _set_aside(self, message_id: str, reason: str) -> None:
        """Quarantine, and wait: for a thread that reads."""
        self._workshop.perform(
            lambda transaction: operators.quarantine(transaction, message_id, reason)
        )
        self._emit_anywhere(Alert(f"spool: message {message_id} is set aside: {reason}"))

    def quarantine(self, message_id: str, reason: str) -> Deferred[None]:
        """Set a message aside; see :class:`mailsvc.interfaces.ISpool`."""

        def set_aside(_: int) -> None:
            self._emit(Alert(f"spool: message {message_id} is set aside: {reason}"))

        return self._workshop.change_then(
            lambda transaction: operators.quarantine(transaction, message_id, reason), set_aside
        )

    # Pauses

    def pause(self, destination: str, reason: str) -> Deferred[None]:
        """Claim nothing more from a destination; see :class:`mailsvc.interfaces.ISpool`."""
        return self._workshop.change_then(
            lambda transaction: operators.pause(transaction, destination, reason),
            lambda _: self._claims.pause(destination, reason),
        )

    def resume(self, destination: str) -> Deferred[bool]:
        """End a pause; see :class:`mailsvc.interfaces.ISpool`."""
        return Deferred.fromCoroutine(self._resume(destination))

    async def _resume(self, destination: str) -> bool:
        paused = await self._workshop.change(
            lambda transaction: operators.resume(transaction, destination)
        )
        self._claims.pause(destination, None)
        await self.hasten(destination)
        return paused

    def paused(self) -> dict[str, str]:
        """Return why destinations are paused, by name."""
        return self._claims.paused()


def _files_of(names: Sequence[str], connection: sqlite3.Connection) -> set[str]:
    return operators.files_of(connection, names)
