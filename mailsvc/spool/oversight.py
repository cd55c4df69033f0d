"""What operators, and synchronous routes, ask of a spool whose server runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred

from mailsvc.errors import SpoolError
from mailsvc.spool import answers, operators
from mailsvc.spool.claims import Claims
from mailsvc.spool.content import Rows
from mailsvc.spool.operators import BATCH, Seen
from mailsvc.spool.rows import Transaction
from mailsvc.spool.usage import Usage
from mailsvc.spool.view import (
    Answer,
    AnswerKey,
    MessageDetail,
    QueueEntry,
    QueueSummary,
    State,
)
from mailsvc.spool.workshop import Workshop

T = TypeVar("T")


class Oversight:
    """Questions and changes; nothing here reads a content."""

    def __init__(
        self,
        workshop: Workshop,
        rows: Rows,
        claims: Claims,
        usage: Usage,
        now: Callable[[], float],
    ) -> None:
        self._workshop = workshop
        self._rows = rows
        self._claims = claims
        self._usage = usage
        self._now = now

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a query says, asked in another thread."""
        return await self._workshop.in_thread(self._rows.read, query)

    def _seen(self) -> Seen:
        return Seen(self._claims.fresh_keys())

    async def summary(self) -> QueueSummary:
        """Return the whole spool's state."""
        seen = self._seen()
        destinations, messages = await self.ask(
            lambda connection: (
                operators.summarise(connection, seen),
                operators.count_messages(connection),
            )
        )
        return QueueSummary(
            tuple(destinations), messages, self._usage.octets, self._usage.limits.octets
        )

    async def entries(
        self,
        destination: str | None = None,
        state: State | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[QueueEntry, ...]:
        """Return deliveries, oldest first, from behind the delivery ``after``."""
        seen = self._seen()
        return await self.ask(
            lambda connection: operators.list_entries(
                connection, seen, destination, state, limit, after
            )
        )

    async def show(self, id_: str) -> MessageDetail | None:
        """Return the message of a message's or a delivery's id, or None."""
        seen = self._seen()
        return await self.ask(lambda connection: operators.show_message(connection, seen, id_))

    async def retry(
        self,
        ids: Iterable[str] | None = None,
        destination: str | None = None,
        fresh_id: bool = False,
    ) -> int:
        """Make deliveries due now; return how many.

        :param ids: of deliveries, or of messages for all of theirs; None: all dead letters, and,
            with ``destination``, whatever waits for it.
        :param fresh_id: those named by ``ids``, and every dead letter, get a new id, so that a
            receiver takes them for new ones, and begin their schedule anew.
        """
        if ids is not None:
            named = list(ids)
            keys = await self.ask(lambda connection: operators.keys_of(connection, named))
            count = await self._in_batches(
                keys,
                lambda transaction, batch: operators.retry_keys(
                    transaction, batch, fresh_id=fresh_id
                ),
            )
        else:
            count = await self._retry_dead(destination, fresh_id)
            if destination is not None:
                count += await self.hasten(destination)
        self._claims.doubt()
        return count

    async def _retry_dead(self, destination: str | None, fresh_id: bool) -> int:
        count = after = 0
        before = self._now()
        while True:
            keys = await self.ask(_dead(destination, before, after))
            if not keys:
                return count
            after = keys[-1]
            count += await self._in_batches(
                keys,
                lambda transaction, batch: operators.retry_keys(
                    transaction, batch, fresh_id=fresh_id
                ),
            )

    async def hasten(self, destination: str) -> int:
        """Make due now what waits for a destination; return how many were not."""
        count = 0
        while True:
            changed = await self._workshop.change(
                lambda transaction: operators.hasten(transaction, destination)
            )
            count += changed
            if changed < BATCH:
                self._claims.doubt()
                return count

    async def drop(self, ids: Iterable[str]) -> int:
        """Delete deliveries that nobody attempts; return how many.

        :param ids: of deliveries, or of messages for all of theirs.
        """
        named = list(ids)
        keys = await self.ask(lambda connection: operators.keys_of(connection, named))
        fresh = self._claims.withdraw(keys)
        if fresh:
            try:
                await self._workshop.change(lambda transaction: transaction.release(fresh))
            except SpoolError:
                self._claims.owe(fresh)
                raise
        return await self._in_batches(keys, operators.drop_keys)

    async def _in_batches(
        self, keys: list[int], change: Callable[[Transaction, list[int]], int]
    ) -> int:
        count = 0
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            count += await self._workshop.change(_bound(change, batch))
        return count

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

    # Synchronous routes and attachments

    async def retain(self, message_id: str, until: float) -> bool:
        """Keep a content until a time, delivered or not; say whether there is such a message."""
        return await self._workshop.change(
            lambda transaction: operators.retain(transaction, message_id, until)
        )

    async def name_deliveries(self, ids: Mapping[str, AnswerKey], until: float) -> None:
        """Keep, durably, the ids of deliveries whose message is about to be committed.

        So a crash before the destination answers leaves one id for the mail and its repeats.
        """

        def name(transaction: Transaction) -> None:
            for id_, key in ids.items():
                answers.name_delivery(transaction, key, id_, until)

        await self._workshop.change(name)

    async def remember_answer(
        self, key: AnswerKey, reply_text: str, code: int, until: float, delivery_id: str = ""
    ) -> None:
        """Keep, durably, what a synchronous route answered (``code`` 0: nothing yet)."""
        answer = Answer(code, reply_text, delivery_id, until)
        await self._workshop.change(
            lambda transaction: answers.remember_answer(transaction, key, answer)
        )

    async def answer_for(self, key: AnswerKey) -> Answer | None:
        """Return what was answered to the same mail before, or None."""
        now = self._now()
        return await self.ask(lambda connection: answers.answer_for(connection, key, now))


def _bound(
    change: Callable[[Transaction, list[int]], int], batch: list[int]
) -> Callable[[Transaction], int]:
    return lambda transaction: change(transaction, batch)


def _dead(
    destination: str | None, before: float, after: int
) -> Callable[[sqlite3.Connection], list[int]]:
    return lambda connection: operators.dead_keys(connection, destination, before, after)
