"""What the spool says to its database: one transaction at a time, in one thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from time import sleep
from typing import Any

from mailsvc.message import Dead, Done, Envelope, Outcome
from mailsvc.spool.held import Held
from mailsvc.spool.ids import delivery_id
from mailsvc.spool.messages import Messages, batch
from mailsvc.spool.records import (
    STORED_COLUMNS,
    Claimed,
    decode_envelope,
    stored_of,
)
from mailsvc.spool.schema import DEAD, NUMBER_BITS, NUMBER_MASK, WAITING

#: Envelopes of the last messages seen, so that a thousand recipients do not mean as many decodings.
_ENVELOPES = 32
#: Messages at most that may lie in the span of those that are finished together: all are looked at.
_SPAN = 1024

#: Seconds until we look again whether another process has let go of the database, and for how many.
_AGAIN = 0.0003
_PATIENCE = 10.0


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes, as soon as no other process is inside one; blocks.

    SQLite itself would look again after 1, 2, 5, 10 and more milliseconds.  A group takes about
    one: by then the other process is often inside its next.  So the writer's connection has no
    timeout of its own (set once: a PRAGMA costs as much as two rows).

    :raises sqlite3.Error: also when it has taken too long.
    """
    waited = 0.0
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or waited >= _PATIENCE:
                raise
        sleep(_AGAIN)
        waited += _AGAIN


def change(connection: sqlite3.Connection, statement: str, values: Sequence[int]) -> sqlite3.Cursor:
    """Execute a statement in a transaction of its own."""
    begin(connection)
    try:
        cursor = connection.execute(statement, values)
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.rollback()
        raise
    return cursor


class Transaction(Messages):
    """The changes of one group, on a connection inside ``BEGIN IMMEDIATE``."""

    def claim(self, destination: str, newest: int, oldest: int) -> list[Claimed]:
        """Take due deliveries from both ends of a destination's queue."""
        number = self.destination(destination)
        claimed: list[Claimed] = []
        # What cannot be read is set aside; what can be read is looked for behind it.
        while not claimed and not self._is_paused(number):
            rows = self._due(number, newest, oldest)
            if not rows:
                break
            for key, recipient, attempts, octets, *row in rows:
                taken = self._take(key, recipient, destination, attempts, octets, row)
                if taken is not None:
                    claimed.append(taken)
        self._hold(claimed)
        return claimed

    def _is_paused(self, number: int) -> bool:
        """Say whether a destination is paused, by whatever process."""
        paused: str | None = self._execute(
            "SELECT paused FROM destinations WHERE id = ?", (number,)
        ).fetchone()[0]
        return paused is not None

    def _due(self, number: int, newest: int, oldest: int) -> list[tuple[Any, ...]]:
        """Return deliveries that are due, each with what its message's row says."""
        select = (
            f"SELECT key, recipient, attempts, octets, {STORED_COLUMNS}, envelope FROM deliveries"
            f" LEFT JOIN messages ON seq = key >> {NUMBER_BITS}"
            " WHERE state = 0 AND destination = ? AND due <= ? ORDER BY due "
        )
        rows = {}
        for order, limit in (("DESC", newest), ("ASC", oldest)):
            if limit:
                found = self._execute(f"{select}{order} LIMIT ?", (number, self.now, limit))
                rows.update({row[0]: row for row in found})
        return list(rows.values())

    def _take(
        self,
        key: int,
        recipient: int,
        destination: str,
        attempts: int,
        octets: int,
        row: Sequence[Any],
    ) -> Claimed | None:
        seq = key >> NUMBER_BITS
        try:
            if row[0] is None:
                raise ValueError("it has no message")
            envelope = self._envelope(seq, row[0], row[-1])
            if not 0 <= recipient < len(envelope.recipients):
                raise ValueError("it has no such recipient")
        except ValueError as error:
            self.kill(key, f"the delivery cannot be read: {error}")
            return None
        token = self.memory.token()
        stored = stored_of(row[:-1])
        id = delivery_id(stored.message_id, key & NUMBER_MASK)
        if envelope.recipients[recipient].route.sync:
            id = self._first_id(id)
        return Claimed(id, key, token, recipient, destination, attempts, octets, stored, envelope)

    def _first_id(self, id: str) -> str:
        """Return the id of the delivery that this one repeats, if it does, else its own."""
        row = self._execute(
            "SELECT delivery_id FROM answers"
            " WHERE reverse_path = '' AND recipient = ? AND sha256 = x''",
            (id,),
        ).fetchone()
        return row[0] if row else id

    def _hold(self, claimed: Sequence[Claimed]) -> None:
        """Say that this process has these deliveries."""
        done = 0
        while done < len(claimed):
            many = batch(len(claimed) - done)
            values: list[object] = [self.memory.process]
            for item in claimed[done : done + many]:
                values += (item.key, item.token)
            self._execute(
                "UPDATE deliveries SET state = 1, owner = ?, token = which.column2"
                f" FROM (VALUES {', '.join(['(?, ?)'] * many)}) AS which WHERE key = which.column1",
                values,
            )
            done += many

    def _envelope(self, seq: int, message_id: str, text: str) -> Envelope:
        envelopes = self.memory.envelopes
        envelope = envelopes.get(seq)
        # Another process may have used the row again once its message was gone.
        if envelope is None or envelope.id != message_id:
            envelope = decode_envelope(text)
            envelopes.pop(seq, None)
            while len(envelopes) >= _ENVELOPES:
                del envelopes[next(iter(envelopes))]
            envelopes[seq] = envelope
        return envelope

    def record(self, held: Held, outcome: Outcome) -> bool:
        """Store what became of an attempt; False if the claim is stale."""
        if isinstance(outcome, Done):
            changed = self._execute(
                "DELETE FROM deliveries WHERE key = ? AND token = ?", (held.key, held.token)
            ).rowcount
            if changed:
                self.changed_octets(self.destination(held.destination), -held.octets)
                self.end_message(held.key >> NUMBER_BITS)
            return bool(changed)
        dead = isinstance(outcome, Dead)
        changed = self._execute(
            "UPDATE deliveries SET state = ?, due = ?, attempts = attempts + ?, owner = NULL,"
            " token = NULL, reason = ? WHERE key = ? AND token = ?",
            (
                DEAD if dead else WAITING,
                self.now if isinstance(outcome, Dead) else outcome.at,
                int(dead or (not isinstance(outcome, Dead) and outcome.spent)),
                outcome.reason,
                held.key,
                held.token,
            ),
        ).rowcount
        return bool(changed)

    def finish(self, held: Sequence[Held]) -> list[bool]:
        """Store that attempts went well; for each, False if the claim is stale.

        Three statements where nothing else lies between them, as with new mail, else four for 32;
        :meth:`record` has three for each.  Every step of a statement waits for the interpreter's
        lock once more.
        """
        if self._finish_span(held):
            return [True] * len(held)
        done: list[bool] = []
        while len(done) < len(held):
            part = held[len(done) : len(done) + batch(len(held) - len(done))]
            done += self._finish_all(part) or [self.record(item, Done()) for item in part]
        return done

    def _finish_span(self, held: Sequence[Held]) -> bool:
        """Do the work of :meth:`finish` if these are all deliveries of a span; else nothing.

        It takes a third of the CPU: SQLite makes no tables of keys to look for.
        """
        count = len(held)
        if count < 2:
            return False
        first = held[0]
        token, key, destination, octets = first.token, first.key, first.destination, first.octets
        for item in held[1:]:
            token += 1
            if item.token != token or item.key <= key or item.destination != destination:
                return False
            key = item.key
            octets += item.octets
        low, high = first.key >> NUMBER_BITS, key >> NUMBER_BITS
        if high - low > _SPAN:
            return False
        # Whoever has one of these tokens is one of these deliveries.
        ended = "seq BETWEEN ?1 AND ?2 AND (retain_until IS NULL OR retain_until <= ?3)"
        found, placed, segment, other, messages, length = self._execute(
            "SELECT (SELECT sum(iif(token BETWEEN ?4 AND ?5, 1, -1)) FROM (SELECT token FROM"
            f" deliveries WHERE key BETWEEN ?1 << {NUMBER_BITS} AND ?2 << {NUMBER_BITS} |"
            f" {NUMBER_MASK} LIMIT ?6)), count(segment), min(segment), max(segment), count(*),"
            f" sum(length) FROM messages WHERE {ended}",
            (low, high, self.now, first.token, token, count + 1),
        ).fetchone()
        if found != count or placed != messages or segment != other:
            return False
        span = (low << NUMBER_BITS, high << NUMBER_BITS | NUMBER_MASK)
        self._execute("DELETE FROM deliveries WHERE key BETWEEN ? AND ?", span)
        self.changed_octets(self.destination(destination), -octets)
        if messages:
            self._place(segment, 0, -messages, -length)
            self._execute(f"DELETE FROM messages WHERE {ended}", (low, high, self.now))
        return True

    def _finish_all(self, held: Sequence[Held]) -> list[bool]:
        """Do the work of :meth:`finish` if no claim is stale; else do and return nothing."""
        if len(held) < 2:
            return []
        several = ", ".join("?" * len(held))
        # No two claims ever have the same token, so each meets its own key.
        which = f"key IN ({several}) AND token IN ({several})"
        names = [item.key for item in held] + [item.token for item in held]
        found = self._execute(f"SELECT count(*) FROM deliveries WHERE {which}", names).fetchone()
        if found[0] != len(held):
            return []
        self._execute(f"DELETE FROM deliveries WHERE {which}", names)
        for item in held:
            self.changed_octets(self.destination(item.destination), -item.octets)
        # The same message may be there twice: both of its deliveries are done.
        ended = (
            f"seq IN ({several}) AND (retain_until IS NULL OR retain_until <= ?)"
            f" AND NOT EXISTS (SELECT 1 FROM deliveries WHERE key BETWEEN seq << {NUMBER_BITS}"
            f" AND seq << {NUMBER_BITS} | {NUMBER_MASK})"
        )
        messages = [*(item.key >> NUMBER_BITS for item in held), self.now]
        for segment, count, octets, files in self._execute(
            "SELECT segment, count(*), sum(length), group_concat(file, '/') FROM messages"
            f" WHERE {ended} GROUP BY segment",
            messages,
        ).fetchall():
            self._place(segment, 0, -count, -octets)
            if files is not None:
                self.freed += files.split("/")
        self._execute(f"DELETE FROM messages WHERE {ended}", messages)
        return [True] * len(held)

    def holds(self, held: Held) -> bool:
        """Say whether a claim is still valid."""
        return bool(
            self._execute(
                "SELECT 1 FROM deliveries WHERE key = ? AND token = ?", (held.key, held.token)
            ).fetchone()
        )

    def release(self, held: Iterable[Held]) -> None:
        """Queue deliveries again that this process held; stale ones stay as they are."""
        self.connection.executemany(
            "UPDATE deliveries SET state = 0, owner = NULL, token = NULL"
            " WHERE key = ? AND token = ?",
            [(item.key, item.token) for item in held],
        )

    def kill(self, key: int, reason: str) -> None:
        """Make a delivery a dead letter, whoever holds it."""
        self._execute(
            "UPDATE deliveries SET state = 2, due = ?, owner = NULL, token = NULL, reason = ?"
            " WHERE key = ?",
            (self.now, reason, key),
        )

    def next_due(self, destination: str) -> float | None:
        """Return when the first delivery that waits is due; None if there is a pause."""
        number = self.destination(destination)
        if self._is_paused(number):
            return None
        due: float | None = self._execute(
            "SELECT min(due) FROM deliveries WHERE state = 0 AND destination = ?", (number,)
        ).fetchone()[0]
        return due
