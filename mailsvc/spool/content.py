"""Reading contents: all of it is checked before the first octet leaves.

What lies in a segment is copied into memory before it is checked, so nothing that becomes of the
segment later can reach a reader.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import BinaryIO, TypeVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import classImplements

from mailsvc.errors import SpoolError
from mailsvc.events import Alert, Emit
from mailsvc.interfaces import IContent
from mailsvc.spool import operators
from mailsvc.spool.claims import Claims
from mailsvc.spool.extent import (
    HEADER_SIZE,
    Damaged,
    UnstuffingReader,
    checked,
    crc32,
    unstuffed,
)
from mailsvc.spool.files import Files
from mailsvc.spool.records import STORED_COLUMNS, Stored, stored_of
from mailsvc.spool.schema import Layout
from mailsvc.spool.workshop import Workshop

T = TypeVar("T")

_BUFFER = 1 << 18


class Shelf:
    """Finds and checks contents; for any thread but the reactor's."""

    def __init__(self, layout: Layout, files: Files) -> None:
        self._layout = layout
        self._files = files

    def octets(self, stored: Stored) -> bytes:
        """Return a content that lies in a segment, as it was received.

        :raises Damaged: it is not there.
        :raises OSError: it cannot be read now.
        """
        assert stored.segment is not None
        try:
            descriptor = self._files.open(self._layout.segment(stored.segment))
        except FileNotFoundError as error:
            raise Damaged("its segment is missing") from error
        try:
            extent = self._files.read_all(descriptor, HEADER_SIZE + stored.length, stored.offset)
        finally:
            self._files.close(descriptor)
        return checked(extent, stored)

    def open(self, stored: Stored) -> BinaryIO:
        """Return a reader of a content as it is delivered; raises as :meth:`octets` does."""
        if stored.segment is not None:
            return _reader(self.octets(stored), stored)
        assert stored.file is not None
        try:
            descriptor = self._files.open(self._layout.own_file(stored.file))
        except FileNotFoundError as error:
            raise Damaged("its file is missing") from error
        try:
            self._check_file(descriptor, stored)
        except BaseException:
            self._files.close(descriptor)
            raise
        raw = io.FileIO(descriptor, "rb")
        if stored.stuffed:
            return io.BufferedReader(UnstuffingReader(raw), _BUFFER)
        return io.BufferedReader(raw, _BUFFER)

    def remove(self, names: Iterable[str]) -> None:
        """Remove contents' own files, by name."""
        for name in names:
            self._files.remove(self._layout.own_file(name))

    def _check_file(self, descriptor: int, stored: Stored) -> None:
        if os.fstat(descriptor).st_size != stored.length:
            raise Damaged("its file has another length")
        crc = position = 0
        while position < stored.length:
            data = self._files.pread(descriptor, _BUFFER, position)
            if not data:
                break
            crc = crc32(data, crc)
            position += len(data)
        if position != stored.length or crc != stored.crc:
            raise Damaged("its file's checksum is wrong")


def _reader(content: bytes, stored: Stored) -> BinaryIO:
    """Return a reader of a content in memory, as it is delivered."""
    return io.BytesIO(unstuffed(content) if stored.stuffed else content)


class Rows:
    """A connection for reading, shared by threads."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``query`` says, called with the connection; blocks.

        All its statements see one moment: a message cannot end between two of them.

        :raises SpoolError: the database cannot be read.
        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.execute("BEGIN")
                try:
                    return query(self._connection)
                finally:
                    self._connection.rollback()
            except sqlite3.Error as error:
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.close()
                raise SpoolError(f"the spool's database cannot be read: {error}") from error

    def find(self, message_id: str) -> Stored | None:
        """Return where a message's content lies."""

        def query(connection: sqlite3.Connection) -> Stored | None:
            row = connection.execute(
                f"SELECT {STORED_COLUMNS} FROM messages WHERE id = ?", (message_id,)
            ).fetchone()
            return stored_of(row) if row is not None else None

        return self.read(query)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class StoredContent:
    """The content of one message.

    :param find: returns where the content lies now, or None if the message is gone; blocks.
    :param quarantine: sets the message aside, and returns when that is durable; blocks.
    :param octets: the content as it was stored just now, in pieces: it need not be read again.
    """

    __slots__ = ("_find", "_octets", "_quarantine", "_shelf", "_stored", "size")

    def __init__(
        self,
        shelf: Shelf,
        stored: Stored,
        find: Callable[[str], Stored | None],
        quarantine: Callable[[str, str], None],
        octets: list[bytes] | None = None,
    ) -> None:
        self.size = stored.size
        self._shelf = shelf
        self._stored = stored
        self._find = find
        self._quarantine = quarantine
        self._octets = octets

    def open(self) -> BinaryIO:
        """Return a fresh reader; see :class:`mailsvc.interfaces.IContent`."""
        octets = self._octets
        if octets is not None:
            if len(octets) > 1:
                # Now, not when it came: some destinations read nothing.
                octets[:] = [b"".join(octets)]
            return _reader(octets[0], self._stored)
        message_id = self._stored.message_id
        while True:
            stored = self._stored
            try:
                return self._shelf.open(stored)
            except Damaged as damage:
                # It may have moved, or have been delivered by another process, meanwhile.
                now = self._find(message_id)
                if now is None:
                    raise SpoolError(f"message {message_id} is gone") from damage
                if now == stored:
                    reason = f"the content of message {message_id} is damaged: {damage}"
                    self._quarantine(message_id, reason)
                    raise SpoolError(reason) from damage
                self._stored = now
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "OSError")
                raise SpoolError(
                    f"the content of message {message_id} cannot be read now ({name}): {error}"
                ) from error


classImplements(StoredContent, IContent)


class Contents:
    """Finds the contents of messages.

    :param emit: logs; called in any thread.
    """

    def __init__(
        self, shelf: Shelf, rows: Rows, claims: Claims, workshop: Workshop, emit: Emit
    ) -> None:
        self._shelf = shelf
        self._claims = claims
        self._workshop = workshop
        self._emit = emit
        self._find = rows.find
        self._quarantine = self._set_aside

    def open(self, message_id: str) -> Deferred[StoredContent]:
        """Return a content; see :meth:`mailsvc.interfaces.ISpool.open`."""
        content = self.at_hand(message_id)
        if content is not None:
            return succeed(content)
        return Deferred.fromCoroutine(self._open(message_id))

    def at_hand(self, message_id: str) -> StoredContent | None:
        """Return a content, if it is known; see :meth:`mailsvc.interfaces.ISpool.at_hand`."""
        known = self._claims.content(message_id)
        if known is None:
            return None
        stored, octets = known
        return self._content(stored, octets)

    async def _open(self, message_id: str) -> StoredContent:
        stored = await self._workshop.in_thread(self._find, message_id)
        if stored is None:
            raise SpoolError(f"there is no message {message_id}")
        return self._content(stored)

    def _content(self, stored: Stored, octets: list[bytes] | None = None) -> StoredContent:
        return StoredContent(self._shelf, stored, self._find, self._quarantine, octets)

    def _set_aside(self, message_id: str, reason: str) -> None:
        """Quarantine, and wait: for a thread that reads."""
        self._workshop.perform(
            lambda transaction: operators.quarantine(transaction, message_id, reason)
        )
        self._emit(Alert(f"spool: message {message_id} is set aside: {reason}"))
