"""What the disk does by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20


@dataclass(frozen=True)
class Sequential:
    """How one large file was written.

    :ivar rate: MB/s.
    :ivar cpu: milliseconds of CPU for each MiB.
    """

    rate: float
    cpu: float


def sequential(directory: Path, octets: int) -> Sequential:
    """Write a new file, one MiB at a time, and sync it."""
    path, block = directory / "disk-probe", os.urandom(_MIB)
    began, spent = time.monotonic(), time.process_time()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(octets // _MIB):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    seconds, used = time.monotonic() - began, time.process_time() - spent
    path.unlink()
    return Sequential(octets / seconds / 1e6, used * 1000 / (octets / _MIB))


def sync_rate(directory: Path, size: int = 10240, count: int = 500) -> float:
    """Return how many writes of ``size`` octets, each synced, a file made in advance takes."""
    block = os.urandom(size)
    with _made_in_advance(directory, size * count) as descriptor:
        began = time.monotonic()
        for index in range(count):
            os.pwrite(descriptor, block, index * size)
            os.fdatasync(descriptor)
        return count / (time.monotonic() - began)


@dataclass(frozen=True)
class Steady:
    """What synced writes at a steady rate took.

    :ivar milliseconds: of each, from when it was made, the shortest first.
    :ivar rate: how many were made in a second.
    :ivar cpu: microseconds of CPU for each.
    """

    milliseconds: list[float]
    rate: float
    cpu: float

    def quantile(self, part: float) -> float:
        """Return the time that ``part`` of the writes did not take longer than."""
        return self.milliseconds[min(int(part * len(self)), len(self) - 1)]

    def __len__(self) -> int:
        return len(self.milliseconds)


def steady_syncs(directory: Path, rate: float, seconds: float, size: int = 10240) -> Steady:
    """Write and sync ``size`` octets again and again, at a steady rate and with nobody else there.

    It is what a server does for one message at a time, so what it shows of stalls is the disk's.
    """
    count = max(1, int(rate * seconds))
    block, taken = os.urandom(size), []
    with _made_in_advance(directory, size * count) as descriptor:
        spent, began = time.process_time(), time.monotonic()
        for index in range(count):
            wait = began + index / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            start = time.monotonic()
            os.pwrite(descriptor, block, index * size)
            os.fdatasync(descriptor)
            taken.append((time.monotonic() - start) * 1000)
        lasted, used = time.monotonic() - began, time.process_time() - spent
    return Steady(sorted(taken), count / lasted, used / count * 1e6)


@contextmanager
def _made_in_advance(directory: Path, octets: int) -> Iterator[int]:
    """Yield the descriptor of a file of zeros that is on the disk already."""
    path = directory / "disk-probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, bytes(octets))
        os.fsync(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink()
