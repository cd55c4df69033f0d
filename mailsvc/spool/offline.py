"""The spool without a server: what operators ask, answered under the spool's lock."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from mailsvc.errors import SpoolError
from mailsvc.spool import operators
from mailsvc.spool.files import Files
from mailsvc.spool.messages import Memory
from mailsvc.spool.operators import BATCH, Seen
from mailsvc.spool.rows import Transaction
from mailsvc.spool.schema import Layout, connect
from mailsvc.spool.view import MessageDetail, QueueEntry, QueueSummary, SpoolLimits, State

T = TypeVar("T")


class SpoolInUse(SpoolError):
    """A process that lives has the spool open: ask that one."""


class OfflineSpool:
    """The rows of a spool that no process has open; a context manager; blocks.

    Content files of messages that are dropped here go when a server next starts.

    :param now: seconds since the epoch.
    :raises SpoolInUse: a process has it open (on entering).
    :raises SpoolError: there is no spool, or it cannot be read (likewise).
    """

    def __init__(self, directory: str, now: Callable[[], float] = time.time) -> None:
        self._layout = Layout(directory)
        self._files = Files()
        self._now = now
        self._lock = -1
        self._connection: sqlite3.Connection | None = None
        self._released = False

    def __enter__(self) -> OfflineSpool:
        if not os.path.exists(self._layout.database):
            raise SpoolError(f"there is no spool in {self._layout.directory}")
        try:
            self._lock = self._files.create(self._layout.lock)
            if not self._files.lock(self._lock, exclusive=True, wait=False):
                raise SpoolInUse(f"a process has {self._layout.directory} open")
            self._connection = connect(self._layout, self._files)
        except (OSError, sqlite3.Error) as error:
            self.__exit__()
            raise SpoolError(f"the spool {self._layout.directory}: {error}") from error
        except SpoolInUse:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    @property
    def _rows(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SpoolError("the spool is not open")
        return self._connection

    def summary(self) -> QueueSummary:
        """Return the whole spool's state."""
        octets = sum(
            os.path.getsize(os.path.join(folder, name))
            for folder, _, names in os.walk(self._layout.directory)
            for name in names
        )
        return QueueSummary(
            tuple(operators.summarise(self._rows, Seen())),
            operators.count_messages(self._rows),
            octets,
            SpoolLimits().octets,
        )

    def entries(
        self,
        destination: str | None = None,
        state: State | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[QueueEntry, ...]:
        """Return deliveries, oldest first, from behind the delivery ``after``."""
        return operators.list_entries(self._rows, Seen(), destination, state, limit, after)

    def show(self, id_: str) -> MessageDetail | None:
        """Return the message of a message's or a delivery's id, or None."""
        return operators.show_message(self._rows, Seen(), id_)

    def retry(self, ids: Iterable[str], *, fresh_id: bool = False) -> int:
        """Make deliveries due at the next start; return how many."""
        keys = operators.keys_of(self._rows, ids)
        return self._in_batches(
            keys,
            lambda transaction, batch: operators.retry_keys(transaction, batch, fresh_id=fresh_id),
        )

    def drop(self, ids: Iterable[str]) -> int:
        """Delete deliveries; return how many."""
        return self._in_batches(operators.keys_of(self._rows, ids), operators.drop_keys)

    def pause(self, destination: str, reason: str) -> None:
        """Keep the queue of a destination, but let nothing of it be claimed."""
        self._change(lambda transaction: operators.pause(transaction, destination, reason))

    def resume(self, destination: str) -> bool:
        """End a pause; say whether there was one."""
        return self._change(lambda transaction: operators.resume(transaction, destination))

    def _in_batches(self, keys: list[int], change: Callable[[Transaction, list[int]], int]) -> int:
        if not self._released:
            # What a process that died was attempting waits again: no process lives, by the lock.
            self._change(
                lambda transaction: transaction.connection.execute(
                    "UPDATE deliveries SET state = 0, owner = NULL, token = NULL WHERE state = 1"
                )
            )
            self._released = True
        count = 0
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            count += self._change(partial(_apply, change, batch))
        return count

    def _change(self, function: Callable[[Transaction], T]) -> T:
        connection = self._rows
        try:
            connection.execute("BEGIN IMMEDIATE")
            transaction = Transaction(connection, Memory(0, 0), self._now())
            result = function(transaction)
            transaction.flush()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # What was done before it stands: each batch is a transaction of its own.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise SpoolError(f"the spool {self._layout.directory}: {error}") from error
        return result


def _apply(
    change: Callable[[Transaction, list[int]], int], batch: list[int], transaction: Transaction
) -> int:
    return change(transaction, batch)
