"""Which processes share a spool, which of them live, and what the dead left.

Each process locks a file of its own while it lives, and names what it owns after itself: segments,
temporary files, held deliveries.  A process that starts, and each that runs from time to time,
takes over what belongs to nobody who lives.  A process that holds its lock but gives no sign of
life keeps its files; its deliveries are given to others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable

from mailsvc.spool.files import Files
from mailsvc.spool.rows import Transaction
from mailsvc.spool.schema import Layout, process_name

#: Seconds between signs of life, and without one until others take the deliveries.
BEAT_SECONDS = 20.0
SILENT_SECONDS = 60.0

#: What the name of a process's file ends with until the file is locked.
_UNNAMED = ".starting"


class Presence:
    """Our process among those that share the spool.

    :ivar number: random, never used again.
    """

    def __init__(self, layout: Layout, files: Files) -> None:
        self.number = secrets.randbits(47) + 1
        self._layout = layout
        self._files = files
        self._locks: list[int] = []

    def enter(self) -> None:
        """Lock the spool against work without a server, and this process's file; blocks.

        The caller holds the start lock.
        """
        files = self._files
        shared = files.create(self._layout.lock)
        self._locks.append(shared)
        files.lock(shared, exclusive=False, wait=True)
        # It has its lock before it has its name: whoever finds it without one takes over what it
        # owns, and would write to the same segments.
        self._sweep_unnamed()
        path = self._layout.process(self.number)
        own = files.create(path + _UNNAMED)
        self._locks.append(own)
        files.lock(own, exclusive=True, wait=True)
        files.rename(path + _UNNAMED, path)

    def _sweep_unnamed(self) -> None:
        """Remove what starts left that did not come that far."""
        for name in os.listdir(self._layout.processes):
            if name.endswith(_UNNAMED):
                self._files.remove(os.path.join(self._layout.processes, name))

    def leave(self) -> None:
        """Unlock, and remove the file."""
        self._files.remove(self._layout.process(self.number))
        while self._locks:
            self._files.close(self._locks.pop())

    def others(self) -> tuple[set[int], set[int]]:
        """Return the numbers of the other processes that live, and of those that do not."""
        living: set[int] = set()
        dead: set[int] = set()
        for name in os.listdir(self._layout.processes):
            try:
                number = int(name, 16)
            except ValueError:
                continue
            if number != self.number:
                (living if self._is_locked(number) else dead).add(number)
        return living, dead

    def _is_locked(self, number: int) -> bool:
        try:
            descriptor = self._files.open(self._layout.process(number))
        except FileNotFoundError:
            return False
        try:
            return not self._files.lock(descriptor, exclusive=True, wait=False)
        finally:
            self._files.close(descriptor)

    def forget(self, dead: Iterable[int]) -> None:
        """Remove the files by which the dead were known."""
        for number in dead:
            self._files.remove(self._layout.process(number))

    def sweep_temporaries(self, living: Iterable[int]) -> int:
        """Remove the temporary files of processes that do not live; return how many."""
        keep = {process_name(number) for number in (*living, self.number)}
        removed = 0
        for name in os.listdir(self._layout.temporary):
            if name.split("-", 1)[0] not in keep:
                self._files.remove(self._layout.temporary_file(name))
                removed += 1
        return removed

    def ownerless(self, living: Iterable[int]) -> list[str]:
        """Return the names of content files that no living process wrote."""
        keep = {process_name(number) for number in (*living, self.number)}
        return [
            name for name in os.listdir(self._layout.content) if name.split("-", 1)[0] not in keep
        ]


class StartLock:
    """Holds the lock under which processes start, one at a time; a context manager; blocks."""

    def __init__(self, layout: Layout, files: Files) -> None:
        self._layout = layout
        self._files = files
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = self._files.create(self._layout.start_lock)
        self._files.lock(self._descriptor, exclusive=True, wait=True)

    def __exit__(self, *_: object) -> None:
        self._files.close(self._descriptor)


def register(transaction: Transaction) -> None:
    """Make this process known."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO processes (id, seen) VALUES (?, ?)",
        (transaction.memory.process, transaction.now),
    )


def unregister(transaction: Transaction) -> None:
    """Make this process unknown."""
    transaction.connection.execute(
        "DELETE FROM processes WHERE id = ?", (transaction.memory.process,)
    )


def beat(transaction: Transaction) -> bool:
    """Give a sign of life; False if others took this process's deliveries meanwhile.

    What it took since is given back as well: it is to forget all that it held.
    """
    process = transaction.memory.process
    execute = transaction.connection.execute
    alive = execute(
        "UPDATE processes SET seen = ? WHERE id = ? AND seen > 0", (transaction.now, process)
    ).rowcount
    if not alive:
        register(transaction)
        _release_all(transaction, process)
    return bool(alive)


def known(transaction: Transaction) -> set[int]:
    """Return the numbers of the processes that the rows know."""
    return {row[0] for row in transaction.connection.execute("SELECT id FROM processes")}


def inherit(transaction: Transaction, living: Iterable[int]) -> int:
    """Take over what belongs to no living process; return how many deliveries were held by such.

    Only rows are changed; a segment taken over is read, and written again once it is empty.
    """
    execute = transaction.connection.execute
    process = transaction.memory.process
    alive = {*living, process}
    for number in known(transaction) - alive:
        execute("DELETE FROM processes WHERE id = ?", (number,))
    listed = ",".join(map(str, sorted(alive)))
    execute(f"UPDATE segments SET owner = ? WHERE owner NOT IN ({listed})", (process,))
    return execute(
        "UPDATE deliveries SET state = 0, owner = NULL, token = NULL"
        f" WHERE state = 1 AND owner NOT IN ({listed})"
    ).rowcount


def disown_silent(transaction: Transaction) -> int:
    """Queue again what processes hold that live but give no sign of it; return how much."""
    execute = transaction.connection.execute
    silent = [
        row[0]
        for row in execute(
            "SELECT id FROM processes WHERE seen > 0 AND seen < ? AND id != ?",
            (transaction.now - SILENT_SECONDS, transaction.memory.process),
        )
    ]
    released = 0
    for number in silent:
        execute("UPDATE processes SET seen = 0 WHERE id = ?", (number,))
        released += _release_all(transaction, number)
    return released


def _release_all(transaction: Transaction, number: int) -> int:
    """Queue again what a process holds; return how much."""
    return transaction.connection.execute(
        "UPDATE deliveries SET state = 0, owner = NULL, token = NULL WHERE state = 1 AND owner = ?",
        (number,),
    ).rowcount
