"""What operators ask of the rows, and change in them: plain functions, with or without a server.

Changes that may concern many rows are made a batch at a time, so that mail is accepted in between:
each returns how many rows it changed, and is called until it returns fewer than :data:`BATCH`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailsvc.message import Envelope
from mailsvc.spool.ids import delivery_id, split_id
from mailsvc.spool.records import STORED_COLUMNS, Stored, decode_envelope, stored_of
from mailsvc.spool.rows import Transaction
from mailsvc.spool.schema import DEAD, HELD, NUMBER_BITS, NUMBER_MASK, WAITING
from mailsvc.spool.view import (
    DestinationSummary,
    MessageDetail,
    QueueEntry,
    State,
)

#: Rows that one transaction of an operator changes.
BATCH = 1000

_STATES: dict[int, State] = {WAITING: "waiting", HELD: "delivering", DEAD: "dead"}
_NUMBERS: dict[State, int] = {name: number for number, name in _STATES.items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What only the server knows: which held deliveries wait in its memory for their turn.

    :ivar fresh: their keys; None: no server runs, so none is being attempted.
    """

    fresh: Collection[int] | None = None

    def state(self, key: int, state: int) -> State:
        """Return the state of a delivery."""
        if state == HELD and (self.fresh is None or key in self.fresh):
            return "waiting"
        return _STATES[state]


# Questions


def summarise(connection: sqlite3.Connection, seen: Seen) -> list[DestinationSummary]:
    """Return all destinations that have deliveries or are paused."""
    counts: dict[int, dict[int, tuple[int, int, float]]] = {}
    for destination, state, count, oldest, due in connection.execute(
        "SELECT destination, state, count(*), min(key), min(due) FROM deliveries"
        " GROUP BY destination, state"
    ):
        counts.setdefault(destination, {})[state] = (count, oldest, due)
    fresh: dict[int, int] = {}
    for key in seen.fresh or ():
        row = connection.execute(
            "SELECT destination FROM deliveries WHERE key = ?", (key,)
        ).fetchone()
        if row is not None:
            fresh[row[0]] = fresh.get(row[0], 0) + 1
    summaries = []
    for number, name, octets, paused in connection.execute(
        "SELECT id, name, octets, paused FROM destinations ORDER BY name"
    ).fetchall():
        states = counts.get(number, {})
        if not states and paused is None:
            continue
        held = states.get(HELD, (0, 0, 0.0))
        idle = held[0] if seen.fresh is None else fresh.get(number, 0)
        waiting = [states[WAITING]] if WAITING in states else []
        if idle:
            waiting.append(held)
        summaries.append(
            DestinationSummary(
                destination=name,
                waiting=(states[WAITING][0] if WAITING in states else 0) + idle,
                delivering=held[0] - idle,
                dead=states[DEAD][0] if DEAD in states else 0,
                oldest=min((_received(key) for _, key, _ in waiting), default=None),
                next_due=min((due for _, _, due in waiting), default=None),
                paused=paused,
                octets=octets,
            )
        )
    return summaries


def _received(key: int) -> float:
    return (key >> NUMBER_BITS) / 1000


def count_messages(connection: sqlite3.Connection) -> int:
    """Return how many messages the spool has."""
    count: int = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
    return count


def list_entries(
    connection: sqlite3.Connection,
    seen: Seen,
    destination: str | None = None,
    state: State | None = None,
    limit: int = 100,
    after: str | None = None,
) -> tuple[QueueEntry, ...]:
    """Return deliveries, oldest first.

    :param after: the id of the last one of the page before.
    """
    conditions = ["key > ?"]
    values: list[object] = [_key(connection, after) or 0 if after is not None else 0]
    if destination is not None:
        conditions.append("destination = (SELECT id FROM destinations WHERE name = ?)")
        values.append(destination)
    if state == "dead":
        conditions.append(f"state = {DEAD}")
    elif state is not None:
        conditions.append(f"state != {DEAD}")
    where = " AND ".join(conditions)
    entries: list[QueueEntry] = []
    for entry in _entries(connection, seen, where, values):
        if len(entries) >= limit:
            break
        if state is None or entry.state == state:
            entries.append(entry)
    return tuple(entries)


def _entries(
    connection: sqlite3.Connection, seen: Seen, where: str, values: Sequence[object]
) -> Iterator[QueueEntry]:
    known: tuple[str | None, Envelope | None] = None, None
    for *row, message_id in connection.execute(
        "SELECT d.key, d.state, n.name, d.attempts, d.due, d.recipient, d.reason, m.size, m.id"
        f" FROM (SELECT * FROM deliveries WHERE {where} ORDER BY key) AS d"
        " LEFT JOIN destinations AS n ON n.id = d.destination"
        f" LEFT JOIN messages AS m ON m.seq = d.key >> {NUMBER_BITS} ORDER BY d.key",
        values,
    ):
        if message_id is None or message_id != known[0]:
            # Once for a message: that of a thousand recipients names them all.
            known = message_id, _envelope(connection, message_id)
        yield _entry(seen, known[1], message_id, *row)


def _envelope(connection: sqlite3.Connection, message_id: str | None) -> Envelope | None:
    row = connection.execute("SELECT envelope FROM messages WHERE id = ?", (message_id,)).fetchone()
    try:
        return decode_envelope(row[0]) if row else None
    except ValueError:
        return None


def _entry(
    seen: Seen,
    envelope: Envelope | None,
    message_id: str | None,
    key: int,
    state: int,
    destination: str | None,
    attempts: int,
    due: float,
    recipient: int,
    reason: str | None,
    size: int | None,
) -> QueueEntry:
    received_at, reverse_path, address = _received(key), "", ""
    if envelope is not None:
        received_at = envelope.received_at
        reverse_path = str(envelope.reverse_path or "")
    if envelope is not None and 0 <= recipient < len(envelope.recipients):
        address = str(envelope.recipients[recipient].address)
    else:
        reason = reason or "its envelope cannot be read"
    message_id = message_id or f"row{key >> NUMBER_BITS}"
    return QueueEntry(
        id=delivery_id(message_id, key & NUMBER_MASK),
        message_id=message_id,
        state=seen.state(key, state),
        destination=destination or "",
        attempts=attempts,
        due=due,
        received_at=received_at,
        size=size or 0,
        reverse_path=reverse_path,
        recipient=address,
        reason=reason or "",
    )


def show_message(connection: sqlite3.Connection, seen: Seen, id_: str) -> MessageDetail | None:
    """Return the message of a message's or a delivery's id."""
    named = split_id(id_)
    if named is None:
        return None
    row = connection.execute(
        f"SELECT {STORED_COLUMNS}, envelope FROM messages WHERE id = ?", (named[0],)
    ).fetchone()
    if row is None:
        return None
    stored = stored_of(row[:-1])
    return MessageDetail(
        envelope=decode_envelope(row[-1]),
        size=stored.size,
        place=_place(stored),
        entries=tuple(_entries(connection, seen, "key BETWEEN ? AND ?", _span(stored.seq))),
    )


def _place(stored: Stored) -> str:
    if stored.segment is None:
        return f"content/{stored.file}"
    return f"segments/{stored.segment:010d} at {stored.offset}"


def _span(seq: int) -> tuple[int, int]:
    return seq << NUMBER_BITS, seq << NUMBER_BITS | NUMBER_MASK


def _key(connection: sqlite3.Connection, id_: str) -> int | None:
    named = split_id(id_)
    if named is None:
        return None
    row = connection.execute("SELECT seq FROM messages WHERE id = ?", (named[0],)).fetchone()
    return row[0] << NUMBER_BITS | (named[1] or 0) if row else None


def keys_of(connection: sqlite3.Connection, ids: Iterable[str]) -> list[int]:
    """Return the keys of deliveries, named by their ids or by their messages'."""
    keys: list[int] = []
    for id_ in ids:
        named = split_id(id_)
        key = _key(connection, id_)
        if named is None or key is None:
            continue
        span = (key, key) if named[1] else _span(key >> NUMBER_BITS)
        keys += [
            row[0]
            for row in connection.execute(
                "SELECT key FROM deliveries WHERE key BETWEEN ? AND ?", span
            )
        ]
    return keys


def files_of(connection: sqlite3.Connection, names: Sequence[str]) -> set[str]:
    """Return those of the names of content files that messages have."""
    ids = [name.partition("-")[2] for name in names]
    marks = ",".join("?" * len(ids))
    return {
        row[0]
        for row in connection.execute(f"SELECT file FROM messages WHERE id IN ({marks})", ids)
    }


# Changes


def retry_keys(transaction: Transaction, keys: Iterable[int], *, fresh_id: bool) -> int:
    """Make deliveries due that wait or are dead; return how many there were."""
    count = 0
    execute = transaction.connection.execute
    for key in keys:
        changed = execute(
            "UPDATE deliveries SET attempts = CASE state WHEN 2 THEN 0 ELSE attempts END,"
            " state = 0, due = ? WHERE key = ? AND state IN (0, 2)",
            (transaction.now, key),
        ).rowcount
        count += changed
        if changed and fresh_id:
            _renumber(transaction, key)
    return count


def _renumber(transaction: Transaction, key: int) -> None:
    """Give a delivery a number, and so an id, that none of its message ever had."""
    seq = key >> NUMBER_BITS
    number: int = transaction.connection.execute(
        "UPDATE messages SET next_number = next_number + 1 WHERE seq = ? RETURNING next_number - 1",
        (seq,),
    ).fetchall()[0][0]
    transaction.connection.execute(
        "UPDATE deliveries SET key = ?, attempts = 0 WHERE key = ?",
        (seq << NUMBER_BITS | number, key),
    )


def dead_keys(
    connection: sqlite3.Connection, destination: str | None, before: float, after: int
) -> list[int]:
    """Return a batch of the dead letters, of one destination or of all, beyond key ``after``.

    :param before: those that died later are left out.
    """
    condition, values = "", [after, before]
    rest: list[object] = [*values]
    if destination is not None:
        condition = "AND destination = (SELECT id FROM destinations WHERE name = ?) "
        rest.append(destination)
    return [
        row[0]
        for row in connection.execute(
            f"SELECT key FROM deliveries WHERE state = 2 AND key > ? AND due <= ? {condition}"
            f"ORDER BY key LIMIT {BATCH}",
            rest,
        )
    ]


def hasten(transaction: Transaction, destination: str) -> int:
    """Make a batch of what waits for a destination due now."""
    return transaction.connection.execute(
        "UPDATE deliveries SET due = ?1 WHERE key IN (SELECT key FROM deliveries"
        " WHERE state = 0 AND destination = ?2 AND due > ?1 ORDER BY due"
        f" LIMIT {BATCH})",
        (transaction.now, transaction.destination(destination)),
    ).rowcount


def drop_keys(transaction: Transaction, keys: Iterable[int]) -> int:
    """Delete deliveries that nobody is attempting; return how many there were."""
    count = 0
    for key in keys:
        row = transaction.connection.execute(
            "SELECT destination, octets FROM deliveries WHERE key = ? AND state IN (0, 2)", (key,)
        ).fetchone()
        if row is not None:
            transaction.connection.execute("DELETE FROM deliveries WHERE key = ?", (key,))
            transaction.changed_octets(row[0], -row[1])
            transaction.end_message(key >> NUMBER_BITS)
            count += 1
    return count


def pause(transaction: Transaction, destination: str, reason: str) -> None:
    """Note that a destination is paused."""
    transaction.connection.execute(
        "UPDATE destinations SET paused = ? WHERE id = ?",
        (reason, transaction.destination(destination)),
    )


def resume(transaction: Transaction, destination: str) -> bool:
    """End a pause; say whether there was one."""
    return bool(
        transaction.connection.execute(
            "UPDATE destinations SET paused = NULL WHERE name = ? AND paused IS NOT NULL",
            (destination,),
        ).rowcount
    )


def quarantine(transaction: Transaction, message_id: str, reason: str) -> int:
    """Make dead letters of a message's deliveries, attempted or not."""
    seq = transaction.seq_of(message_id)
    if seq is None:
        return 0
    return transaction.connection.execute(
        "UPDATE deliveries SET state = 2, due = ?, owner = NULL, token = NULL, reason = ?"
        " WHERE key BETWEEN ? AND ? AND state != 2",
        (transaction.now, reason, *_span(seq)),
    ).rowcount


def retain(transaction: Transaction, message_id: str, until: float) -> bool:
    """Keep a content until a time, delivered or not; say whether there is such a message."""
    return bool(
        transaction.connection.execute(
            "UPDATE messages SET retain_until = max(coalesce(retain_until, 0), ?) WHERE id = ?",
            (until, message_id),
        ).rowcount
    )
