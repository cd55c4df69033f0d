"""Segments: files of written zeros into which the contents of a group go with one sync.

They are for the writer's thread alone; only their files are made elsewhere, in advance.  A segment
is written from its start to its end once, and again only when no durable row names it.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Executor, Future

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.events import Alert, Emit
from mailsvc.spool.accepting import Accepting
from mailsvc.spool.extent import HEADER_SIZE, crc32, header
from mailsvc.spool.files import Files
from mailsvc.spool.rows import change
from mailsvc.spool.schema import Layout, process_name
from mailsvc.spool.usage import Usage

#: Groups begin on a page of their own, so that no page with acknowledged mail is written again.
_PAGE = 4096
#: Free segments that are kept, so that a load that comes and goes does not make and remove them.
_KEPT = 2


class _Segment:
    """The segment that is being filled."""

    __slots__ = ("descriptor", "number", "position", "size")

    def __init__(self, number: int, descriptor: int, size: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.size = size
        self.position = 0


def failure(error: OSError, what: str) -> SpoolError:
    """Return what a failed system call means to who wanted to store."""
    kind = SpoolFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolError
    return kind(f"{what}: {error}")


class Segments:
    """The segments that this process may write to.

    :param size: octets of a new segment.
    """

    def __init__(
        self,
        layout: Layout,
        files: Files,
        process: int,
        executor: Executor,
        usage: Usage,
        emit: Emit,
        size: int,
    ) -> None:
        self._layout = layout
        self._files = files
        self._process = process
        self._executor = executor
        self._usage = usage
        self._emit = emit
        self._size = size
        self._current: _Segment | None = None
        self._making: dict[int, Future[None]] = {}
        self._looked_ahead = False
        #: Segments with content of the group under way, which no row names yet.
        self._touched: set[int] = set()
        #: Messages whose content was written into the current segment since its last sync.
        self._unsynced: list[Accepting] = []
        #: Segments that the disk failed on; their rows say so, too, as soon as they can be written.
        self._abandoned: set[int] = set()

    @property
    def current(self) -> int | None:
        """The number of the segment that is being filled."""
        return self._current.number if self._current else None

    def store(self, connection: sqlite3.Connection, messages: Sequence[Accepting]) -> None:
        """Write contents; each message is then placed, or has its ``error``.

        They are durable once :meth:`sync` has said so.
        """
        self._touched.clear()
        batch: list[Accepting] = []
        buffers: list[bytes | memoryview] = []
        position = self._current.position if self._current else 0
        waiting = iter(messages)
        for message in waiting:
            need = HEADER_SIZE + message.length
            if self._current is None or position + need > self._current.size:
                self._write(connection, batch, buffers, position)
                self.sync(connection)
                batch, buffers = [], []
                try:
                    self._current = self._next(connection)
                except (SpoolError, OSError, sqlite3.Error) as error:
                    wrapped = error
                    if isinstance(error, OSError):
                        wrapped = failure(error, "no new segment")
                    elif isinstance(error, sqlite3.Error):
                        wrapped = SpoolError(f"no new segment: {error}")
                    for failed in (message, *waiting):
                        failed.error = wrapped
                    return
                position = 0
            crc = 0
            for chunk in message.chunks:
                crc = crc32(chunk, crc)
            message.crc = crc
            message.segment = self._current.number
            message.offset = position
            buffers.append(header(message.message_id, message.length, crc))
            buffers += message.chunks
            batch.append(message)
            position += need
        self._write(connection, batch, buffers, position)

    def _write(
        self,
        connection: sqlite3.Connection,
        batch: list[Accepting],
        buffers: list[bytes | memoryview],
        position: int,
    ) -> None:
        segment = self._current
        if not batch or segment is None:
            return
        self._touched.add(segment.number)
        try:
            self._files.write_all(segment.descriptor, buffers, segment.position)
            self._files.start_writing(
                segment.descriptor, segment.position, position - segment.position
            )
        except OSError as error:
            self._abandon(connection, segment, batch, error)
        else:
            segment.position = -(-position // _PAGE) * _PAGE
            self._unsynced = batch

    def sync(self, connection: sqlite3.Connection) -> bool:
        """Sync what was written, if anything was; say whether all of it is durable.

        If not, the messages have their ``error``, and a transaction is rolled back.
        """
        batch, self._unsynced = self._unsynced, []
        segment = self._current
        if not batch or segment is None:
            return True
        try:
            self._files.fdatasync(segment.descriptor)
        except OSError as error:
            connection.rollback()
            self._abandon(connection, segment, batch, error)
            return False
        return True

    def _abandon(
        self,
        connection: sqlite3.Connection,
        segment: _Segment,
        batch: Sequence[Accepting],
        error: OSError,
    ) -> None:
        """Never touch a segment again that the disk failed on: what it holds is still read."""
        wrapped = failure(error, f"segment {segment.number}")
        for message in batch:
            message.error = wrapped
        self._emit(Alert(f"spool: segment {segment.number} is abandoned: {error}"))
        self._abandoned.add(segment.number)
        self._files.close(segment.descriptor)
        self._current = None
        # Otherwise a round of upkeep says it.
        with contextlib.suppress(sqlite3.Error):
            self._mark_abandoned(connection)

    def _mark_abandoned(self, connection: sqlite3.Connection) -> None:
        connection.executemany(
            "UPDATE segments SET abandoned = 1 WHERE id = ? AND abandoned = 0",
            [(number,) for number in self._abandoned],
        )

    # Which segment is next

    def _next(self, connection: sqlite3.Connection) -> _Segment:
        if self._current is not None:
            self._files.close(self._current.descriptor)
            self._current = None
        self._looked_ahead = False
        self._settle_made(connection, wait=False)
        segment = self._recycled(connection)
        if segment is None and self._making:
            self._settle_made(connection, wait=True)
            segment = self._recycled(connection)
        if segment is None:
            number = self._reserve(connection)
            try:
                self._make(number)
            except OSError:
                change(connection, "DELETE FROM segments WHERE id = ?", (number,))
                raise
            segment = self._opened(number, self._size)
        return segment

    def free(self, connection: sqlite3.Connection) -> list[tuple[int, int]]:
        """Return numbers and sizes of the segments that can be written from their start."""
        rows = connection.execute(
            "SELECT id, size FROM segments WHERE owner = ? AND live = 0 AND abandoned = 0"
            " ORDER BY id",
            (self._process,),
        ).fetchall()
        kept = {self.current, *self._making, *self._touched, *self._abandoned}
        return [(number, size) for number, size in rows if number not in kept]

    def _recycled(self, connection: sqlite3.Connection) -> _Segment | None:
        for number, size in self.free(connection):
            try:
                if size >= self._size and self._files.size(self._layout.segment(number)) == size:
                    return self._opened(number, size)
            except OSError as error:
                self._emit(Alert(f"spool: segment {number} is removed: {error}"))
            # Of another size, or not there at all: nothing names it.
            change(connection, "DELETE FROM segments WHERE id = ?", (number,))
            self._files.remove(self._layout.segment(number))
        return None

    def _opened(self, number: int, size: int) -> _Segment:
        return _Segment(number, self._files.open(self._layout.segment(number), write=True), size)

    def _reserve(self, connection: sqlite3.Connection) -> int:
        """Return a new segment's number; its row comes first, so that no file is without one."""
        self._usage.require(self._size)
        cursor = change(
            connection,
            "INSERT INTO segments (owner, size, live, octets) VALUES (?, ?, 0, 0)",
            (self._process, self._size),
        )
        self._usage.add_segment(self._size)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _make(self, number: int) -> None:
        """Make a segment's file, complete when it has its name."""
        files = self._files
        temporary = self._layout.temporary_file(f"{process_name(self._process)}-segment-{number}")
        try:
            descriptor = files.create(temporary)
            try:
                files.write_zeros(descriptor, self._size)
                files.fsync(descriptor)
            finally:
                files.close(descriptor)
            files.rename(temporary, self._layout.segment(number))
            files.sync_directory(self._layout.segments)
        except OSError:
            self._usage.add_segment(-self._size)
            files.remove(temporary)
            files.remove(self._layout.segment(number))
            raise

    def _settle_made(self, connection: sqlite3.Connection, *, wait: bool) -> None:
        for number, making in list(self._making.items()):
            if wait or making.done():
                del self._making[number]
                error = making.exception()
                if error is not None:
                    self._emit(Alert(f"spool: no new segment: {error}"))
                    change(connection, "DELETE FROM segments WHERE id = ?", (number,))

    def look_ahead(self, connection: sqlite3.Connection) -> None:
        """Have the next segment made while this one fills, unless one is free."""
        current = self._current
        if current is None or self._looked_ahead or current.position * 2 < current.size:
            return
        self._looked_ahead = True
        self._touched.clear()
        if self._making or self.free(connection):
            return
        try:
            number = self._reserve(connection)
        except (SpoolFull, sqlite3.Error):
            return  # whoever needs it will say so
        self._making[number] = self._executor.submit(self._make, number)

    # Upkeep

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Have a segment ready before the first message comes.

        :raises OSError: the disk does not take it.
        :raises SpoolFull: there is no room for it.
        """
        if self._current is None:
            self._touched.clear()
            self._current = self._next(connection)

    def room(self, connection: sqlite3.Connection) -> int:
        """Return the octets that can be stored without making a segment."""
        room = sum(size for _, size in self.free(connection))
        if self._current is not None:
            room += self._current.size - self._current.position
        return room

    def trim(self, connection: sqlite3.Connection) -> None:
        """Remove the segments that are free, but for a few, and abandoned ones that are empty.

        Where the transaction fails then, rows without files are left, which ``_recycled`` drops.
        """
        self._mark_abandoned(connection)
        spent = connection.execute(
            "SELECT id, size FROM segments WHERE owner = ? AND live = 0 AND abandoned = 1",
            (self._process,),
        ).fetchall()
        for number, size in spent + self.free(connection)[_KEPT:]:
            connection.execute("DELETE FROM segments WHERE id = ?", (number,))
            self._files.remove(self._layout.segment(number))
            self._usage.add_segment(-size)

    def close(self) -> None:
        """Close the segment that is being filled."""
        if self._current is not None:
            self._files.close(self._current.descriptor)
            self._current = None
