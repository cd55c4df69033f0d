"""What the spool does by itself, every second or less often.

It gives back what expired, counts what it takes, and clears segments that hold little that is still
needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mailsvc.spool.answers import forget_answers
from mailsvc.spool.content import Shelf
from mailsvc.spool.extent import Damaged
from mailsvc.spool.files import Files
from mailsvc.spool.held import Held
from mailsvc.spool.operators import BATCH
from mailsvc.spool.process import Presence, beat, disown_silent, inherit, known
from mailsvc.spool.records import STORED_COLUMNS, Stored, stored_of
from mailsvc.spool.rows import Transaction
from mailsvc.spool.schema import Layout, process_name
from mailsvc.spool.segments import Segments

#: Seconds after which content leaves its segment, unless the segment is nearly full of such.
_SETTLED = 600.0
#: Contents that move to files of their own in one go.
_MOVED = 64


@dataclass(slots=True)
class Report:
    """What a round of upkeep found.

    :ivar alive: False if other processes took this one's deliveries.
    :ivar inherited: deliveries that dead or silent processes had held.
    :ivar moving: contents that ought to move to files of their own.
    """

    segments: int = 0
    files: int = 0
    database: int = 0
    free: int = 0
    room: int = 0
    held: dict[str, int] = field(default_factory=dict)
    paused: dict[str, str] = field(default_factory=dict)
    alive: bool = True
    inherited: int = 0
    moving: list[Stored] = field(default_factory=list)


class Upkeep:
    """Rounds of upkeep: each part of the writer's transaction, but for the moving of contents."""

    def __init__(
        self,
        layout: Layout,
        files: Files,
        shelf: Shelf,
        segments: Segments,
        presence: Presence,
    ) -> None:
        self._layout = layout
        self._files = files
        self._shelf = shelf
        self._segments = segments
        self._presence = presence
        self._prefix = process_name(presence.number)
        #: By segment, the last row whose content was asked to move.
        self._asked: dict[int, int] = {}

    # In the writer's thread

    def round(
        self,
        transaction: Transaction,
        released: Sequence[Held],
        *,
        beating: bool,
        clearing: bool,
    ) -> Report:
        """Do a round.

        :param released: deliveries that this process lets go of.
        :param beating: also give a sign of life and look after the other processes.
        :param clearing: also look for contents to move, and remove what is kept no longer.
        """
        report = Report()
        if released:
            transaction.release(released)
        if beating:
            report.alive = beat(transaction)
            if len(known(transaction)) > 1:
                living, dead = self._presence.others()
                report.inherited = inherit(transaction, living) + disown_silent(transaction)
                self._presence.forget(dead)
        if clearing:
            self._expire(transaction)
            transaction.flush()
            self._segments.trim(transaction.connection)
            report.moving = self._to_move(transaction)
        transaction.flush()
        self._count(transaction.connection, report)
        return report

    def _count(self, connection: sqlite3.Connection, report: Report) -> None:
        execute = connection.execute
        report.segments = execute("SELECT coalesce(sum(size), 0) FROM segments").fetchone()[0]
        report.files = execute("SELECT octets FROM files").fetchone()[0]
        report.database = self._files.size(self._layout.database) + self._files.size(
            self._layout.database + "-wal"
        )
        report.free = self._files.free(self._layout.directory)
        report.room = self._segments.room(connection)
        for name, octets, paused in execute("SELECT name, octets, paused FROM destinations"):
            report.held[name] = octets
            if paused is not None:
                report.paused[name] = paused

    def _expire(self, transaction: Transaction) -> None:
        execute = transaction.connection.execute
        forget_answers(transaction)
        retained = execute(
            "SELECT seq FROM messages WHERE retain_until <= ? ORDER BY retain_until LIMIT ?",
            (transaction.now, BATCH),
        ).fetchall()
        for (seq,) in retained:
            if not transaction.end_message(seq):
                execute("UPDATE messages SET retain_until = NULL WHERE seq = ?", (seq,))

    def _to_move(self, transaction: Transaction) -> list[Stored]:
        """Return contents that keep a segment from being used again."""
        current = self._segments.current
        settled = int((transaction.now - _SETTLED) * 1000)
        moving: list[Stored] = []
        rows = transaction.connection.execute(
            "SELECT id, size, octets, abandoned, first, last FROM segments"
            " WHERE owner = ? AND live > 0",
            (transaction.memory.process,),
        ).fetchall()
        self._asked = {row[0]: self._asked[row[0]] for row in rows if row[0] in self._asked}
        for number, size, octets, abandoned, first, last in rows:
            if number != current and (octets * 4 < size or abandoned):
                end = last
            elif octets * 4 < size * 3:
                end = min(last, settled)
            else:
                continue
            asked = self._asked.get(number, 0)
            # A segment that began anew has its first row beyond what was asked before.
            begin = max(first, asked + 1)
            if begin <= end:
                found = transaction.connection.execute(
                    f"SELECT {STORED_COLUMNS} FROM messages"
                    " WHERE seq BETWEEN ? AND ? AND segment = ? ORDER BY seq LIMIT ?",
                    (begin, end, number, _MOVED - len(moving)),
                ).fetchall()
                full = len(found) == _MOVED - len(moving)
                moving += [stored_of(row) for row in found]
                self._asked[number] = moving[-1].seq if full else end
            if len(moving) == _MOVED:
                break
        return moving

    # In another thread

    def move(
        self, contents: Sequence[Stored]
    ) -> tuple[list[tuple[Stored, str]], list[tuple[Stored, str]]]:
        """Write contents to files of their own, durably.

        :return: those, with the files' names; and the damaged ones, with what is wrong.
        :raises OSError: the disk does not take them; nothing is left of them.
        """
        files = self._files
        moved: list[tuple[Stored, str]] = []
        damaged: list[tuple[Stored, str]] = []
        try:
            for stored in contents:
                try:
                    content = self._shelf.octets(stored)
                except Damaged as damage:
                    damaged.append((stored, str(damage)))
                    continue
                name = f"{self._prefix}-{stored.message_id}"
                moved.append((stored, name))
                temporary = self._layout.temporary_file(name)
                descriptor = files.create(temporary)
                try:
                    files.write_all(descriptor, [content], 0)
                    files.fsync(descriptor)
                finally:
                    files.close(descriptor)
                files.rename(temporary, self._layout.own_file(name))
            if moved:
                files.sync_directory(self._layout.content)
        except OSError:
            self.discard([name for _, name in moved])
            for stored in contents:
                self._asked.pop(stored.segment or 0, None)
            raise
        return moved, damaged

    def discard(self, names: Iterable[str]) -> None:
        """Remove files that no row names."""
        for name in names:
            self._files.remove(self._layout.temporary_file(name))
            self._files.remove(self._layout.own_file(name))
