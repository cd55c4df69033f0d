"""Which outcomes a sender is told of, and the notifications on their way into the spool."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mailsvc.dsn import FULL, HEADER, Report, write
from mailsvc.errors import SpoolError
from mailsvc.events import Alert, Emit, Notified
from mailsvc.interfaces import Claim, IContent, ISpool
from mailsvc.message import Client, Dead, Delivery, Done, Envelope, Outcome, Recipient, Retry, Route

#: Seconds after which mail that still waits is late (RFC 3461 section 4.1 leaves it to us).
LATE = 14_400.0
#: Seconds for which a spool that fails is asked again, and those of a lease left for the record.
_PATIENCE, _RECORDING = 7.0, 5.0
#: Seconds after that was in vain in which a spool that fails is asked once only.
_HOPELESS = 60.0
#: Notifications that are written at the same time; each may hold the whole message in memory.
_AT_ONCE = 16


def report_of(
    delivery: Delivery, outcome: Outcome, reply: str | None, schedule: tuple[float, ...], now: float
) -> Report | None:
    """Return what the sender is to be told of an attempt, or None (RFC 3461 section 4.1).

    Without NOTIFY failures are told.  Nobody is told of a message with the null reverse-path, which
    every notification has.  Of the destinations of a recipient the first speaks for a success.

    :param reply: the SMTP reply that the destination worded; empty if it refused without one, None
        if it did not refuse.
    :param schedule: the waits between the attempts of the destination.
    """
    asked = delivery.recipient.notify or ("FAILURE",)
    if delivery.envelope.reverse_path is None:
        return None
    if isinstance(outcome, Dead):
        # RFC 3463: a refusal without a reason, or the time for delivery expired.
        status = "5.4.7" if reply is None else "5.0.0"
        return Report("failed", delivery, status, now, reply or "") if "FAILURE" in asked else None
    if isinstance(outcome, Done):
        first = delivery.recipient.route.destinations[:1] == (delivery.destination,)
        told = "SUCCESS" in asked and first
        return Report("delivered", delivery, "2.0.0", now) if told else None
    if "DELAY" not in asked or not outcome.spent or not _gets_late(delivery, outcome, now):
        return None
    until = outcome.at + sum(schedule[delivery.attempt :])
    return Report("delayed", delivery, "4.0.0", now, retry_until=until)


def _gets_late(delivery: Delivery, outcome: Retry, now: float) -> bool:
    """Say whether it is late by the next attempt and was not by this one: so it is told once."""
    late_at = delivery.envelope.received_at + LATE
    return outcome.at >= late_at and (now < late_at or delivery.attempt == 1)


def notice_id(report: Report) -> str:
    """Return the message id of a notification: the same for the same report, at every try."""
    envelope = report.delivery.envelope
    digest = sha256(f"{report.delivery.id} {report.action}".encode()).hexdigest()
    return f"{int(envelope.received_at * 1000):011x}{digest[:16]}"


class Notices:
    """Writes notifications and puts them into the spool.

    :param in_thread: calls a blocking function in a thread.
    :ivar destinations: where notifications go; without any, none are written.
    :ivar wake: told the destinations that a notification owes.
    """

    def __init__(
        self,
        hostname: str,
        destinations: tuple[str, ...],
        spool: ISpool,
        clock: IReactorTime,
        emit: Emit,
        in_thread: Callable[..., Awaitable[bytes]],
        wake: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self.wake = wake
        self.change(hostname, destinations)
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._in_thread = in_thread
        self._turns = DeferredSemaphore(_AT_ONCE)
        #: No patience before this: a spool that is full makes no other destination wait for long.
        self._hopeless_until = 0.0

    def change(self, hostname: str, destinations: tuple[str, ...]) -> None:
        """Follow a changed configuration."""
        self.hostname = hostname
        self.destinations = tuple(dict.fromkeys(destinations))

    async def tell(
        self, claim: Claim, outcome: Outcome, reply: str | None, schedule: tuple[float, ...]
    ) -> None:
        """Make what the sender is to be told durable, before the outcome is recorded.

        It never raises.  A spool that fails is asked again, for a few seconds and never past the
        lease: then the outcome is recorded without a notification, and the log says so.
        """
        if not self.destinations:
            return
        clock = self._clock
        now = clock.seconds()
        report = report_of(claim.delivery, outcome, reply, schedule, now)
        if report is None:
            return
        until = min(now + _PATIENCE, claim.expires_at - _RECORDING)
        wait = 1.0
        while True:
            try:
                name = await self._turns.run(Deferred.fromCoroutine, self.store(report))
            except Exception as error:
                now = clock.seconds()
                if now < self._hopeless_until or now + wait > until:
                    self._hopeless_until = now + _HOPELESS
                    what = f"the sender of {claim.delivery.id} is not told ({report.action})"
                    self._emit(Alert(f"{what}: {error}"))
                    return
            else:
                self._hopeless_until = 0.0
                self._emit(
                    Notified(
                        claim.delivery.id, report.action, claim.delivery.envelope.reverse_path, name
                    )
                )
                return
            await deferLater(clock, wait)
            wait *= 2

    async def store(self, report: Report) -> str:
        """Make a notification durable; return its message id.

        :raises SpoolError: it is not stored.
        """
        original = report.delivery.envelope
        sender = original.reverse_path
        if sender is None:
            raise SpoolError("nobody is notified of mail with the null reverse-path")
        name = notice_id(report)
        if await self._stored(name):
            return name
        content = await self._spool.open(original.id)
        octets = await self._in_thread(compose, report, content, name, self.hostname)
        destinations = self.destinations
        route = Route("[notifications]", destinations)
        envelope = Envelope(
            id=name,
            received_at=report.attempted_at,
            reverse_path=None,
            recipients=(Recipient(sender, route, ("NEVER",)),),
            client=Client(helo=self.hostname, protocol="ESMTP"),
            body="7BIT" if octets.isascii() else "8BITMIME",
            smtputf8=report.international,
            require_tls=original.require_tls,
        )
        incoming = self._spool.begin(envelope, False)
        waiting = incoming.write(octets)
        if waiting is not None:
            await waiting
        await incoming.commit()
        self.wake(destinations)
        return name

    async def _stored(self, name: str) -> bool:
        """Say whether the notification waits already: the service ended before it was recorded."""
        try:
            await self._spool.open(name)
        except SpoolError:
            return False
        return True


def compose(report: Report, content: IContent, name: str, hostname: str) -> bytes:
    """Return the notification; blocking, it reads the message."""
    with content.open() as reader:
        original = reader.read(FULL if report.wants_all else 2 * HEADER)
    return write(report, original, name, os.urandom(16).hex(), hostname)
