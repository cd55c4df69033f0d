"""What the spool says to its database: one transaction at a time, in one thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from mailsvc.message import Dead, Done, Envelope, Outcome
from mailsvc.spool.extent import Stored
from mailsvc.spool.records import (
    STORED_COLUMNS,
    Accepting,
    Claimed,
    Held,
    decode_envelope,
    stored_of,
)
from mailsvc.spool.schema import DEAD, HELD, NUMBER_BITS, NUMBER_MASK, WAITING

#: Envelopes of the last messages seen, so that a thousand recipients do not mean as many decodings.
_ENVELOPES = 32

#: Rows of a statement at most; SQLite took 999 values before 3.32.
_ROWS = 32

_MESSAGE_COLUMNS = (
    "seq, id, segment, offset, file, length, crc, stuffed, size, next_number, envelope"
)
_DELIVERY_COLUMNS = "key, destination, recipient, state, attempts, due, owner, token, octets"


class Memory:
    """What is kept between transactions of one process.

    :ivar process: its number among those that share the spool.
    :ivar destinations: known numbers by name.
    """

    def __init__(self, process: int, token: int) -> None:
        self.process = process
        self.destinations: dict[str, int] = {}
        self.envelopes: dict[int, Envelope] = {}
        self.last_seq = 0
        self._token = token

    def token(self) -> int:
        """Return a fencing token that no process gave before."""
        self._token += 1
        return self._token


class Transaction:
    """The changes of one group, on a connection inside ``BEGIN IMMEDIATE``.

    :ivar now: seconds since the epoch.
    :ivar freed: names of the content files to remove once the changes are durable.
    """

    def __init__(self, connection: sqlite3.Connection, memory: Memory, now: float) -> None:
        self.connection = connection
        self.memory = memory
        self.now = now
        self.freed: list[str] = []
        self._execute: Callable[..., sqlite3.Cursor] = connection.execute
        self._destinations: dict[str, int] = {}
        self._held_octets: dict[int, int] = {}
        self._segments: dict[int, list[int]] = {}
        self._file_octets = 0
        self._seq = 0

    # Messages

    def accept(self, messages: Sequence[Accepting]) -> None:
        """Insert messages and their deliveries.

        :raises sqlite3.IntegrityError: the spool has a message of such an id.
        """
        seq = self._last_seq()
        clock = int(self.now * 1000)
        process = self.memory.process
        rows: list[object] = []
        deliveries: list[object] = []
        for message in messages:
            seq = max(seq + 1, clock)
            message.seq = seq
            message.tokens = []
            length = message.length
            rows += (
                seq,
                message.message_id,
                message.segment,
                message.offset,
                message.file,
                length,
                message.crc,
                message.stuffed,
                message.size,
                len(message.plan) + 1,
                message.envelope.decode("utf-8"),
            )
            key = seq << NUMBER_BITS
            for planned in message.plan:
                key += 1
                destination = self.destination(planned.destination)
                self._held_octets[destination] = self._held_octets.get(destination, 0) + length
                token = None
                if planned.held:
                    token = self.memory.token()
                    message.tokens.append(token)
                deliveries += (
                    key,
                    destination,
                    planned.recipient,
                    HELD if planned.held else WAITING,
                    0,
                    self.now,
                    process if planned.held else None,
                    token,
                    length,
                )
            self._place(message.segment, seq, 1, length)
        self._seq = seq
        self._insert("messages", _MESSAGE_COLUMNS, rows)
        self._insert("deliveries", _DELIVERY_COLUMNS, deliveries)

    def _insert(self, table: str, columns: str, values: list[object]) -> None:
        """Insert rows, whose values stand one after another, many to a statement.

        Each step of a statement gives the interpreter's lock away, and a row of ``executemany`` is
        a step: beside a busy reactor a row waits longer for the lock than it takes to insert.
        """
        width = columns.count(",") + 1
        row = f"({', '.join('?' * width)})"
        done, count = 0, len(values) // width
        while done < count:
            # Powers of two, so that there are few statements and all of them stay prepared.
            many = min(_ROWS, 1 << (count - done).bit_length() - 1)
            self._execute(
                f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * many)}",
                values[done * width : (done + many) * width],
            )
            done += many

    def _last_seq(self) -> int:
        if not self._seq:
            found: int | None = self._execute("SELECT max(seq) FROM messages").fetchone()[0]
            self._seq = max(found or 0, self.memory.last_seq)
        return self._seq

    def _place(self, segment: int | None, seq: int, messages: int, octets: int) -> None:
        """Count content that came (or, negative, went) in its segment or among the files."""
        if segment is None:
            self._file_octets += octets
            return
        change = self._segments.get(segment)
        if change is None:
            change = self._segments[segment] = [0, 0, 0, 0]
        change[0] += messages
        change[1] += octets
        if messages > 0:
            change[2] = change[2] or seq
            change[3] = seq

    def end_message(self, seq: int) -> bool:
        """Delete a message whose last delivery has ended, unless it is retained."""
        return self._forget(
            "DELETE FROM messages WHERE seq = ? AND (retain_until IS NULL OR retain_until <= ?)"
            f" AND NOT EXISTS (SELECT 1 FROM deliveries WHERE key BETWEEN seq << {NUMBER_BITS}"
            f" AND seq << {NUMBER_BITS} | {NUMBER_MASK}) RETURNING segment, file, length",
            (seq, self.now),
            seq,
        )

    def delete_message(self, seq: int) -> None:
        """Delete a message, its deliveries with it."""
        span = (seq << NUMBER_BITS, seq << NUMBER_BITS | NUMBER_MASK)
        for destination, octets in self._execute(
            "DELETE FROM deliveries WHERE key BETWEEN ? AND ? RETURNING destination, octets", span
        ).fetchall():
            self.changed_octets(destination, -octets)
        self._forget(
            "DELETE FROM messages WHERE seq = ? RETURNING segment, file, length", (seq,), seq
        )

    def _forget(self, statement: str, values: Sequence[object], seq: int) -> bool:
        ended = self._execute(statement, values).fetchall()
        for segment, file, length in ended:
            self._place(segment, seq, -1, -length)
            if file is not None:
                self.freed.append(file)
        return bool(ended)

    def move(self, stored: Stored, file: str) -> bool:
        """Say that a content lies in a file of its own now; False if its message is gone."""
        changed = self._execute(
            "UPDATE messages SET segment = NULL, offset = 0, file = ?"
            " WHERE seq = ? AND id = ? AND segment = ?",
            (file, stored.seq, stored.message_id, stored.segment),
        ).rowcount
        if changed:
            self._place(stored.segment, stored.seq, -1, -stored.length)
            self._place(None, stored.seq, 1, stored.length)
        return bool(changed)

    def seq_of(self, message_id: str) -> int | None:
        """Return a message's row."""
        row = self._execute("SELECT seq FROM messages WHERE id = ?", (message_id,)).fetchone()
        return row[0] if row else None

    # Destinations

    def destination(self, name: str) -> int:
        """Return a destination's number; one that is new to the spool gets one."""
        number = self.memory.destinations.get(name) or self._destinations.get(name)
        if number is not None:
            return number
        self._execute(
            "INSERT INTO destinations (name, octets) VALUES (?, 0) ON CONFLICT (name) DO NOTHING",
            (name,),
        )
        number = int(
            self._execute("SELECT id FROM destinations WHERE name = ?", (name,)).fetchone()[0]
        )
        self._destinations[name] = number
        return number

    def changed_octets(self, destination: int, octets: int) -> None:
        """Count octets that a destination holds more, or less."""
        self._held_octets[destination] = self._held_octets.get(destination, 0) + octets

    # Deliveries

    def claim(self, destination: str, newest: int, oldest: int) -> list[Claimed]:
        """Take due deliveries from both ends of a destination's queue."""
        number = self.destination(destination)
        claimed: list[Claimed] = []
        # What cannot be read is set aside; what can be read is looked for behind it.
        while not claimed and not self._is_paused(number):
            rows = self._due(number, newest, oldest)
            if not rows:
                break
            for key, recipient, attempts, octets in rows:
                taken = self._take(key, recipient, destination, attempts, octets)
                if taken is not None:
                    claimed.append(taken)
        return claimed

    def _is_paused(self, number: int) -> bool:
        """Say whether a destination is paused, by whatever process."""
        paused: str | None = self._execute(
            "SELECT paused FROM destinations WHERE id = ?", (number,)
        ).fetchone()[0]
        return paused is not None

    def _due(self, number: int, newest: int, oldest: int) -> list[tuple[int, int, int, int]]:
        select = (
            "SELECT key, recipient, attempts, octets FROM deliveries"
            " WHERE state = 0 AND destination = ? AND due <= ? ORDER BY due "
        )
        rows = {}
        for order, limit in (("DESC", newest), ("ASC", oldest)):
            if limit:
                found = self._execute(f"{select}{order} LIMIT ?", (number, self.now, limit))
                rows.update({row[0]: row for row in found})
        return list(rows.values())

    def _take(
        self, key: int, recipient: int, destination: str, attempts: int, octets: int
    ) -> Claimed | None:
        seq = key >> NUMBER_BITS
        row = self._execute(
            f"SELECT {STORED_COLUMNS}, envelope FROM messages WHERE seq = ?", (seq,)
        ).fetchone()
        try:
            if row is None:
                raise ValueError("it has no message")
            envelope = self._envelope(seq, row[0], row[-1])
            if not 0 <= recipient < len(envelope.recipients):
                raise ValueError("it has no such recipient")
        except ValueError as error:
            self.kill(key, f"the delivery cannot be read: {error}")
            return None
        token = self.memory.token()
        self._execute(
            "UPDATE deliveries SET state = 1, owner = ?, token = ? WHERE key = ?",
            (self.memory.process, token, key),
        )
        stored = stored_of(row[:-1])
        return Claimed(key, token, recipient, destination, attempts, octets, stored, envelope)

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

        Ten statements for 32 deliveries, where :meth:`record` has three for each: every step of a
        statement waits for the interpreter's lock once more.
        """
        done: list[bool] = []
        while len(done) < len(held):
            # Powers of two, so that there are few statements and all of them stay prepared.
            many = min(_ROWS, 1 << (len(held) - len(done)).bit_length() - 1)
            part = held[len(done) : len(done) + many]
            done += self._finish_all(part) or [self.record(item, Done()) for item in part]
        return done

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

    def flush(self) -> None:
        """Write the counters: before the commit, and before they are read."""
        for number, octets in self._held_octets.items():
            if octets:
                self._execute(
                    "UPDATE destinations SET octets = octets + ? WHERE id = ?", (octets, number)
                )
        for segment, (messages, octets, first, last) in self._segments.items():
            # A segment without messages is begun anew by the first that comes.
            self._execute(
                "UPDATE segments SET first = CASE WHEN ?3 = 0 THEN first WHEN live = 0 THEN ?3"
                " ELSE min(first, ?3) END, last = CASE WHEN ?4 = 0 THEN last ELSE ?4 END,"
                " live = live + ?1, octets = octets + ?2 WHERE id = ?5",
                (messages, octets, first, last, segment),
            )
        if self._file_octets:
            self._execute("UPDATE files SET octets = octets + ?", (self._file_octets,))
        self._held_octets, self._segments, self._file_octets = {}, {}, 0

    def committed(self) -> None:
        """Keep for the next transaction what is true now."""
        self.memory.last_seq = max(self.memory.last_seq, self._seq)
        self.memory.destinations.update(self._destinations)
