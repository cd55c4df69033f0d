"""Synchronous routes: the destination's answer decides the reply to the SMTP client.

The message is durable before the destination is asked.  What it answered is kept, so that a sender
who gave up too early and sends the mail again gets that answer, or, where there was none, has the
destination asked again under the same id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from mailsvc.dispatch.destination import Verdict
from mailsvc.errors import SpoolError
from mailsvc.interfaces import Claim, IIncoming
from mailsvc.message import Address, Dead, Done, Envelope, Outcome, Recipient, Reply
from mailsvc.spool.ids import delivery_id
from mailsvc.spool.view import Answer, AnswerKey

#: Seconds that a client waits for an answer before it gets a 451.
LIMIT = 30.0
#: Seconds for which an answer is kept.
KEPT = 172_800.0

#: The class and the words of an answer, by the code of its reply.
_STATUS = {2: "2.0.0", 4: "4.3.0", 5: "5.7.1"}
_REFUSED = "The recipient's application refused the message"
_LATER = "The recipient's application cannot take the message now, try again later"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the client is told for one recipient.

    :ivar reason: why, for the log.
    """

    reply: Reply
    reason: str = ""


class AnsweringSpool(Protocol):
    """What synchronous routes ask of a spool."""

    def claim_message(self, message_id: str, lease: float) -> Sequence[Claim]:
        """Take the deliveries of synchronous routes of a message that was just committed."""

    def record(self, claim: Claim, outcome: Outcome) -> Awaitable[None]:
        """Store an outcome; see :class:`mailsvc.interfaces.ISpool`."""

    def paused(self) -> Mapping[str, str]:
        """Return why destinations are paused, by name."""

    def name_deliveries(self, ids: Mapping[str, AnswerKey], until: float) -> Awaitable[None]:
        """Keep, durably, the ids of deliveries, or those of the mails that they repeat."""

    def answer_for(self, key: AnswerKey) -> Awaitable[Answer | None]:
        """Return what was answered to the same mail before, or None."""

    def remember_answer(
        self, key: AnswerKey, reply_text: str, code: int, until: float, delivery_id: str = ""
    ) -> Awaitable[None]:
        """Keep, durably, what was answered (``code`` 0: nothing yet)."""


class Synchronous:
    """Asks destinations for clients that wait.

    :param attempt: attempts claimed deliveries now; see :meth:`Dispatcher.attempt`.
    :param clock: its seconds are those of the epoch.
    :param lease: seconds for which deliveries are claimed.
    """

    def __init__(
        self,
        spool: AnsweringSpool,
        attempt: Callable[[Sequence[Claim]], Awaitable[list[Verdict]]],
        clock: IReactorTime,
        lease: float,
    ) -> None:
        self._spool = spool
        self._attempt = attempt
        self._clock = clock
        self._lease = lease
        self._asked: dict[AnswerKey, list[Deferred[Ruling]]] = {}

    def store(
        self,
        incoming: IIncoming,
        envelope: Envelope,
        sha256: bytes,
        told: Callable[[Exception | None], None],
    ) -> None:
        """Do what :meth:`commit` does, and call ``told`` then with what went wrong, or None."""
        Deferred.fromCoroutine(self.commit(incoming, envelope, sha256)).addCallbacks(
            lambda _: told(None), lambda failure: told(failure.value)
        )

    async def commit(self, incoming: IIncoming, envelope: Envelope, sha256: bytes) -> str:
        """Commit a message; before that keep, durably, the ids under which it is asked about.

        So, whenever the service is killed, the message and a repeat of it reach their destination
        under one id.

        :return: the message's id.
        :raises mailsvc.errors.SpoolError: nothing was kept of the message.
        """
        ids = {name: _key(envelope, each, sha256) for name, each in _deliveries(envelope)}
        try:
            await self._spool.name_deliveries(ids, self._clock.seconds() + KEPT)
        except SpoolError:
            incoming.abort()
            raise
        return await incoming.commit()

    async def rule(self, envelope: Envelope, sha256: bytes) -> dict[Address, Ruling]:
        """Return what the client is told for each recipient of a synchronous route.

        :param envelope: of a message that was just committed.
        :param sha256: of its content as the client sent it.
        """
        claims = self._spool.claim_message(envelope.id, self._lease)
        rulings = await gatherResults([self._in_time(claim, sha256) for claim in claims])
        return {
            claim.delivery.recipient.address: ruling
            for claim, ruling in zip(claims, rulings, strict=True)
        }

    def _in_time(self, claim: Claim, sha256: bytes) -> Deferred[Ruling]:
        """Return the ruling, or one that there is none yet; the question is asked to its end."""
        told: Deferred[Ruling] = Deferred()

        def give_up() -> None:
            told.callback(_later(f"no answer within {LIMIT:.0f} s"))

        limit = self._clock.callLater(LIMIT, give_up)

        def tell(ruling: Ruling) -> None:
            if limit.active():
                limit.cancel()
                told.callback(ruling)

        Deferred.fromCoroutine(self._settle(claim, sha256)).addCallback(tell)
        return told

    async def _settle(self, claim: Claim, sha256: bytes) -> Ruling:
        """Ask once, however often the same mail comes at the same time."""
        delivery = claim.delivery
        key = _key(delivery.envelope, delivery.recipient, sha256)
        waiting = self._asked.get(key)
        try:
            if waiting is not None:
                told: Deferred[Ruling] = Deferred()
                waiting.append(told)
                # The other message of the same mail is what is delivered.
                await self._spool.record(claim, Done())
                return await told
            self._asked[key] = []
            ruling = await self._ask(claim, key)
        except SpoolError as error:
            ruling = _later(str(error))
        if waiting is None:
            for each in self._asked.pop(key):
                each.callback(ruling)
        return ruling

    async def _ask(self, claim: Claim, key: AnswerKey) -> Ruling:
        spool = self._spool
        known = await spool.answer_for(key)
        if known is not None and known.code:
            await spool.record(claim, Done())
            return Ruling(_reply(known.code, known.text), "as it was answered before")
        paused = spool.paused().get(claim.delivery.destination)
        if paused is not None:
            await spool.record(claim, Done())
            return _later(f"the destination is paused: {paused}")
        name = claim.delivery.id
        if known is not None and known.delivery_id != name:
            name = known.delivery_id
            claim = replace(claim, delivery=replace(claim.delivery, id=name))
        (verdict,) = await self._attempt([claim])
        ruling = _ruling(verdict, claim.delivery.envelope.id)
        reply = ruling.reply
        if reply.code // 100 != 4:
            until = self._clock.seconds() + KEPT
            try:
                await spool.remember_answer(key, reply.text, reply.code, until, name)
            except SpoolError:
                # The destination has answered; without this a repeated mail is posted again under
                # the same id.
                pass
        return ruling


def _key(envelope: Envelope, recipient: Recipient, sha256: bytes) -> AnswerKey:
    return AnswerKey(str(envelope.reverse_path or ""), str(recipient.address), sha256)


def _deliveries(envelope: Envelope) -> Iterator[tuple[str, Recipient]]:
    """Yield id and recipient of each delivery of a synchronous route that there is going to be."""
    number = 0
    for recipient in envelope.recipients:
        for _ in recipient.route.destinations:
            number += 1
            if recipient.route.sync:
                yield delivery_id(envelope.id, number), recipient


def _ruling(verdict: Verdict, message_id: str) -> Ruling:
    outcome = verdict.outcome
    if isinstance(outcome, Done):
        return Ruling(_reply(250, f"OK {message_id}"))
    if isinstance(outcome, Dead):
        return Ruling(_reply(verdict.code or 550, verdict.reply or _REFUSED), outcome.reason)
    return _later(outcome.reason, verdict.code or 451)


def _later(reason: str, code: int = 451) -> Ruling:
    return Ruling(_reply(code, _LATER), reason)


def _reply(code: int, text: str) -> Reply:
    return Reply(code, text, _STATUS[code // 100])
