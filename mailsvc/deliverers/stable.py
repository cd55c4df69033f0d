"""What puts files and directories on stable storage.  Everything here blocks."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def sync_directory(path: str) -> None:
    """Put a directory's entries on stable storage."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str) -> None:
    """Make a directory, mode 0700, and the parents that it lacks, all durably."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    sync_directory(os.path.dirname(path))


def _linux_syncfs() -> Callable[[int], None] | None:
    """Return syncfs(2), or None where it does not exist or does not report errors."""
    name = os.uname()
    major, _, rest = name.release.partition(".")
    minor = rest.partition(".")[0]
    if name.sysname != "Linux" or not (major.isdigit() and minor.isdigit()):
        return None
    # Before Linux 5.8 it did not say when writing had failed (syncfs(2), BUGS).
    if (int(major), int(minor)) < (5, 8):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None

    def syncfs(descriptor: int) -> None:
        if function(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return syncfs


_syncfs = _linux_syncfs()


def sync_files(directories: Sequence[Sequence[int]]) -> None:
    """Put all of these open files on stable storage.

    Several of one file system are synced by one call where the system has it: that costs about as
    much as one file.

    :param directories: the descriptors of files by the directories that they are in, in the order
        in which they were opened.
    :raises OSError: at least one of them is not.
    """
    if _syncfs is None or sum(map(len, directories)) < 3:
        for descriptors in directories:
            for descriptor in descriptors:
                os.fsync(descriptor)
        return
    # The one that was opened first: it tells of every write that has failed since (syncfs(2)).
    first = reversed([descriptors[0] for descriptors in directories])
    for descriptor in {os.fstat(each).st_dev: each for each in first}.values():
        _syncfs(descriptor)


def obstacle(path: str) -> str:
    """Return what keeps a directory from being made or written to; empty: nothing is seen."""
    if "\0" in path:
        return "no path has a NUL in it"
    directory = os.path.abspath(path)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    there = directory == os.path.abspath(path)
    # What another directory is only made in need not be read.
    wanted = os.W_OK | os.X_OK | (os.R_OK if there else 0)
    if not os.path.isdir(directory):
        fault = "is not a directory"
    elif not os.access(directory, wanted):
        fault = "cannot be written to"
    else:
        return ""
    if there:
        return f"{path} {fault}"
    return f"{path} cannot be made: {directory} {fault}"
