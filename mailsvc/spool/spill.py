"""A content that is written to a file of its own while it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from twisted.internet.defer import Deferred

from mailsvc.errors import SpoolError
from mailsvc.spool.extent import crc32
from mailsvc.spool.files import Files
from mailsvc.spool.schema import Layout
from mailsvc.spool.segments import failure
from mailsvc.spool.writer import Threads

#: The disk is kept busy while the peer sends: a long file is synced each time that it grew by this.
_SYNC_EVERY = 8 << 20


class Spill:
    """Writes a file in the executor, in order, one piece of work at a time.

    The file has a temporary name until it is complete and synced; then it is renamed, and its
    directory is synced.

    :param name: the file's name.
    :param gone: called in the reactor's thread with octets that memory no longer holds.
    :ivar pending: octets that are not written yet.
    """

    def __init__(
        self,
        layout: Layout,
        files: Files,
        name: str,
        executor: Executor,
        threads: Threads,
        gone: Callable[[int], None],
    ) -> None:
        self.pending = 0
        self._layout = layout
        self._files = files
        self._temporary = layout.temporary_file(name)
        self._final = layout.own_file(name)
        self._executor = executor
        self._threads = threads
        self._gone = gone
        self._below: list[tuple[int, Deferred[None]]] = []
        # Guarded by the lock:
        self._lock = threading.Lock()
        self._chunks: list[bytes | memoryview] = []
        self._busy = False
        self._discarded = False
        self._finished: Callable[[SpoolError | None, int], None] | None = None
        # Of the executor's thread:
        self._descriptor: int | None = None
        self._length = 0
        self._synced = 0
        self._crc = 0
        self._error: SpoolError | None = None

    # The reactor's thread

    def write(self, chunks: Sequence[bytes | memoryview], size: int) -> None:
        """Append."""
        self.pending += size
        with self._lock:
            self._chunks += chunks
            self._begin()

    def below(self, octets: int) -> Deferred[None]:
        """Return what fires when no more than ``octets`` are pending."""
        deferred: Deferred[None] = Deferred()
        self._below.append((octets, deferred))
        return deferred

    def finish(self, finished: Callable[[SpoolError | None, int], None]) -> None:
        """Complete the file.

        :param finished: called in another thread with an error, or None and the content's CRC.
        """
        with self._lock:
            self._finished = finished
            self._begin()

    def discard(self) -> None:
        """Remove the file as soon as nobody writes to it."""
        with self._lock:
            self._discarded = True
            self._begin()

    def _begin(self) -> None:
        if not self._busy:
            self._busy = True
            self._executor.submit(self._work)

    def _wrote(self, size: int) -> None:
        self.pending -= size
        self._gone(size)
        if self._below:
            fire = [deferred for octets, deferred in self._below if self.pending <= octets]
            self._below = [pair for pair in self._below if self.pending > pair[0]]
            for deferred in fire:
                deferred.callback(None)

    # The executor's threads

    def _work(self) -> None:
        while True:
            with self._lock:
                chunks, self._chunks = self._chunks, []
                discarded = self._discarded
                finished = self._finished
                if not chunks and not discarded and finished is None:
                    self._busy = False
                    return
            if chunks:
                size = sum(map(len, chunks))
                if self._error is None and not discarded:
                    self._write(chunks, size)
                del chunks
                self._threads.callFromThread(self._wrote, size)
            elif discarded:
                self._close()
                self._files.remove(self._temporary)
                return
            elif finished is not None:
                if self._error is None:
                    self._complete()
                finished(self._error, self._crc)
                return

    def _write(self, chunks: Sequence[bytes | memoryview], size: int) -> None:
        files = self._files
        try:
            if self._descriptor is None:
                self._descriptor = files.create(self._temporary)
            for chunk in chunks:
                self._crc = crc32(chunk, self._crc)
            files.write_all(self._descriptor, chunks, self._length)
            self._length += size
            if self._length - self._synced >= _SYNC_EVERY:
                self._synced = self._length
                files.fdatasync(self._descriptor)
        except OSError as error:
            self._give_up(error)

    def _complete(self) -> None:
        files = self._files
        try:
            if self._descriptor is None:
                self._descriptor = files.create(self._temporary)
            files.fsync(self._descriptor)
            self._close()
            files.rename(self._temporary, self._final)
            files.sync_directory(self._layout.content)
        except OSError as error:
            self._give_up(error)
            files.remove(self._final)

    def _give_up(self, error: OSError) -> None:
        """Forget a file that the disk failed on: it is not written or synced again."""
        self._error = failure(error, "content file")
        self._close()
        self._files.remove(self._temporary)

    def _close(self) -> None:
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None
