"""What the disk does by itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

_MIB = 1 << 20


def sequential_rate(directory: Path, octets: int) -> float:
    """Return the MB/s at which a new file is written and synced, one MiB at a time."""
    path, block = directory / "disk-probe", os.urandom(_MIB)
    began = time.monotonic()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(octets // _MIB):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    seconds = time.monotonic() - began
    path.unlink()
    return octets / seconds / 1e6


def sync_rate(directory: Path, size: int = 10240, count: int = 500) -> float:
    """Return how many writes of ``size`` octets, each synced, a file made in advance takes."""
    path, block = directory / "disk-probe", os.urandom(size)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, bytes(size * count))
        os.fsync(descriptor)
        began = time.monotonic()
        for index in range(count):
            os.pwrite(descriptor, block, index * size)
            os.fdatasync(descriptor)
        seconds = time.monotonic() - began
    finally:
        os.close(descriptor)
    path.unlink()
    return count / seconds
