"""How a process begins: it comes among the others and recovers what was left."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial

from mailsvc.errors import SpoolError
from mailsvc.events import Alert, Emit
from mailsvc.spool import operators, process
from mailsvc.spool.content import Rows, Shelf
from mailsvc.spool.files import Files
from mailsvc.spool.messages import Memory
from mailsvc.spool.process import Presence, StartLock
from mailsvc.spool.rows import Transaction, begin
from mailsvc.spool.schema import Layout, connect, make_database
from mailsvc.spool.segments import Segments

#: Content files that are looked up at once when those that belong to nobody are removed.
_SWEPT = 500


class Opening:
    """A start; everything here blocks.

    :param emit: for any thread.
    """

    def __init__(
        self, layout: Layout, files: Files, presence: Presence, segments: Segments, emit: Emit
    ) -> None:
        self._layout = layout
        self._files = files
        self._presence = presence
        self._segments = segments
        self._emit = emit

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the database."""
        return connect(self._layout, self._files)

    def enter(self, memory: Memory, now: Callable[[], float]) -> tuple[int, list[str]]:
        """Come among the processes of the spool, and take over what the dead left.

        :return: how many deliveries the dead held, and the content files that are to be swept.
        """
        self._layout.make(self._files)
        with StartLock(self._layout, self._files):
            self._presence.enter()
            make_database(self._layout, self._files)
            living, dead = self._presence.others()
            connection = self.connect()
            try:
                connection.execute("PRAGMA busy_timeout = 0")  # begin() waits
                begin(connection)
                transaction = Transaction(connection, memory, now())
                process.register(transaction)
                held = process.inherit(transaction, living)
                connection.execute("COMMIT")
                self._segments.prepare(connection)
            finally:
                connection.close()
            self._presence.forget(dead)
            self._presence.sweep_temporaries(living)
            return held, self._presence.ownerless(living)

    def sweep(self, rows: Rows, shelf: Shelf, names: Sequence[str]) -> None:
        """Remove content files that no message has."""
        for start in range(0, len(names), _SWEPT):
            part = names[start : start + _SWEPT]
            try:
                found = rows.read(partial(operators.files_of, names=part))
            except SpoolError as error:
                self._emit(Alert(f"spool: stale files stay for now: {error}"))
                return
            shelf.remove([name for name in part if name not in found])
