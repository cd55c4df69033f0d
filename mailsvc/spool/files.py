"""The system calls that the spool makes on files: one object, so that tests can let each one fail.

Everything here blocks: it is called in the spool's own threads, never in the reactor's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence

#: What pwritev takes at most (Linux: UIO_MAXIOV).
_VECTOR = 1024
_ZEROS = bytes(1 << 20)
#: Statements that a connection keeps prepared: those for many rows are there for each number.
_STATEMENTS = 256


class Files:
    """The operating system's files."""

    def create(self, path: str) -> int:
        """Return a descriptor of a new, empty file for reading and writing, mode 0600."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: str, *, write: bool = False) -> int:
        """Return a descriptor of a file that exists."""
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close; a descriptor is gone whatever close says."""
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def pwritev(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write once; return how many octets were written."""
        return os.pwritev(descriptor, buffers, offset)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read once."""
        return os.pread(descriptor, size, offset)

    def fsync(self, descriptor: int) -> None:
        """Put content and attributes on stable storage."""
        os.fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """Put content, and what is needed to read it, on stable storage."""
        os.fdatasync(descriptor)

    def start_writing(self, descriptor: int, offset: int, size: int) -> None:
        """Have the disk begin with what was written there: the sync waits a fourth as long then.

        It says that we need no copy in memory, and Linux begins to write what it has no copy of.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)

    def rename(self, source: str, target: str) -> None:
        """Give a file its final name."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def free(self, path: str) -> int:
        """Return the octets that the disk of ``path`` still takes from us."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def connect(self, path: str) -> sqlite3.Connection:
        """Return a connection in autocommit mode; the caller sees to one thread at a time."""
        return sqlite3.connect(
            path,
            timeout=10.0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )

    # What follows is made of the calls above.

    def size(self, path: str) -> int:
        """Return a file's octets; 0 for one that does not exist."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def remove(self, path: str) -> None:
        """Remove a file that may be gone, or may not be removable now (a later start sweeps)."""
        with contextlib.suppress(OSError):
            self.unlink(path)

    def sync_directory(self, path: str) -> None:
        """Put a directory's entries on stable storage."""
        descriptor = self.open(path)
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    def write_all(
        self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int
    ) -> None:
        """Write every octet of ``buffers`` from ``offset`` on."""
        for start in range(0, len(buffers), _VECTOR):
            part = buffers[start : start + _VECTOR]
            expected = sum(map(len, part))
            written = self.pwritev(descriptor, part, offset)
            if written < expected:
                self._write_rest(descriptor, memoryview(b"".join(part)), written, offset)
            offset += expected

    def _write_rest(self, descriptor: int, data: memoryview, done: int, offset: int) -> None:
        while done < len(data):
            done += self.pwritev(descriptor, [data[done:]], offset + done)

    def write_zeros(self, descriptor: int, size: int) -> None:
        """Fill a file with written, not merely allocated, zeros; the caller syncs it.

        Each part is synced before the next: what others sync meanwhile waits for a part, not for
        all of it (of 64 MiB, 1 ms in place of 26 for 99 of 100 syncs).
        """
        offset = 0
        while offset < size:
            if offset:
                self.fdatasync(descriptor)
            part = _ZEROS if size - offset >= len(_ZEROS) else _ZEROS[: size - offset]
            self.write_all(descriptor, [part], offset)
            offset += len(part)

    def read_all(self, descriptor: int, size: int, offset: int) -> bytes:
        """Return ``size`` octets, fewer only at the file's end."""
        data = self.pread(descriptor, size, offset)
        while 0 < len(data) < size:
            more = self.pread(descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def lock(self, descriptor: int, *, exclusive: bool, wait: bool) -> bool:
        """Take a flock; say whether it was taken."""
        operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        if not wait:
            operation |= fcntl.LOCK_NB
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            return False
        return True
