"""What the spool says to its database of messages, and of what they take."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache

from mailsvc.message import Envelope
from mailsvc.spool.accepting import Accepting
from mailsvc.spool.records import Stored
from mailsvc.spool.schema import HELD, NUMBER_BITS, NUMBER_MASK, WAITING

#: Rows of a statement at most; SQLite took 999 values before 3.32.
_ROWS = 32

#: Rows without NULL and truth: to bind one of these costs ten times as much as a number.  What all
#: rows of a statement have in common is bound once (``?1``).
_IN_SEGMENT, _IN_FILE = (
    f"INSERT INTO messages ({place}, seq, id, offset, length, crc, stuffed, size, next_number,"
    " envelope) VALUES "
    for place in ("segment", "file")
)
_MESSAGE = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELIVERIES = (
    "INSERT INTO deliveries (due, owner, state, attempts, token, key, destination, recipient,"
    " octets) VALUES "
)
_HELD = f"(?1, ?2, {HELD}, 0, ?, ?, ?, ?, ?)"
_WAITING = f"(?1, NULL, {WAITING}, 0, NULL, ?, ?, ?, ?)"


def batch(count: int) -> int:
    """Return how many of ``count`` rows the next statement is for."""
    return min(_ROWS, count)


@cache
def _inserting(into: str, row: str, rows: int) -> str:
    """Return the statement that inserts so many rows."""
    return into + ", ".join([row] * rows)


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


class _Change:
    """What came into a segment in one transaction, and, negative, went."""

    __slots__ = ("first", "last", "messages", "octets")

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0
        self.first = 0
        self.last = 0


class Messages:
    """The part of a transaction that is about messages.

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
        self._segments: dict[int, _Change] = {}
        self._file_octets = 0
        self._seq = 0

    # Messages

    def accept(self, messages: Sequence[Accepting]) -> None:
        """Insert messages and their deliveries.

        :raises sqlite3.IntegrityError: the spool has a message of such an id.
        """
        seq = self._last_seq()
        clock = int(self.now * 1000)
        rows: list[object] = []
        files: list[object] = []
        held: list[object] = []
        waiting: list[object] = []
        for message in messages:
            seq = max(seq + 1, clock)
            message.seq = seq
            message.tokens = []
            length = message.length
            segment = message.segment
            row: list[object] = [
                message.file if segment is None else segment,
                seq,
                message.message_id,
                message.offset,
                length,
                message.crc,
                int(message.stuffed),
                message.size,
                len(message.plan) + 1,
                message.envelope.decode("utf-8"),
            ]
            if segment is None:
                files += row
            else:
                rows += row
            key = seq << NUMBER_BITS
            for planned in message.plan:
                key += 1
                destination = self.destination(planned.destination)
                self._held_octets[destination] = self._held_octets.get(destination, 0) + length
                if planned.held:
                    token = self.memory.token()
                    message.tokens.append(token)
                    held += (token, key, destination, planned.recipient, length)
                else:
                    waiting += (key, destination, planned.recipient, length)
            self._place(segment, seq, 1, length)
        self._seq = seq
        self._insert(_IN_SEGMENT, _MESSAGE, [], rows)
        self._insert(_IN_FILE, _MESSAGE, [], files)
        self._insert(_DELIVERIES, _HELD, [self.now, self.memory.process], held)
        self._insert(_DELIVERIES, _WAITING, [self.now], waiting)

    def _insert(self, into: str, row: str, common: list[object], values: list[object]) -> None:
        """Insert rows, whose own values stand one after another, many to a statement.

        Each step of a statement gives the interpreter's lock away, and a row of ``executemany`` is
        a step: beside a busy reactor a row waits longer for the lock than it takes to insert.
        """
        width = row.count("?") - len(common)
        done, count = 0, len(values) // width
        while done < count:
            many = batch(count - done)
            part = values[done * width : (done + many) * width]
            self._execute(_inserting(into, row, many), common + part)
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
            change = self._segments[segment] = _Change()
        change.messages += messages
        change.octets += octets
        if messages > 0:
            change.first = change.first or seq
            change.last = seq

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

    def flush(self) -> None:
        """Write the counters: before the commit, and before they are read."""
        for number, octets in self._held_octets.items():
            if octets:
                self._execute(
                    "UPDATE destinations SET octets = octets + ? WHERE id = ?", (octets, number)
                )
        for segment, change in self._segments.items():
            # A segment without messages is begun anew by the first that comes.
            self._execute(
                "UPDATE segments SET first = CASE WHEN ?3 = 0 THEN first WHEN live = 0 THEN ?3"
                " ELSE min(first, ?3) END, last = CASE WHEN ?4 = 0 THEN last ELSE ?4 END,"
                " live = live + ?1, octets = octets + ?2 WHERE id = ?5",
                (change.messages, change.octets, change.first, change.last, segment),
            )
        if self._file_octets:
            self._execute("UPDATE files SET octets = octets + ?", (self._file_octets,))
        self._held_octets, self._segments, self._file_octets = {}, {}, 0

    def committed(self) -> None:
        """Keep for the next transaction what is true now."""
        self.memory.last_seq = max(self.memory.last_seq, self._seq)
        self.memory.destinations.update(self._destinations)
