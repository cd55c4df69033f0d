"""What a process and all its descendants cost, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: A state of /proc/net/tcp.
_ESTABLISHED = "01"


def descendants(roots: Iterable[int]) -> list[int]:
    """Return the processes and everything below them that lives."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found, left = [], list(roots)
    while left:
        pid = left.pop()
        found.append(pid)
        left.extend(children.get(pid, ()))
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return user and system time of the processes, and of those that they waited for."""
    total = 0
    for pid in descendants(roots):
        with suppress(OSError):
            fields = _stat(pid)
            total += sum(int(each) for each in fields[11:15])
    return total * _TICK


def forget_peaks(roots: Iterable[int]) -> None:
    """Let the peaks of resident memory start anew."""
    for pid in descendants(roots):
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_octets(roots: Iterable[int]) -> int:
    """Return the sum of the peaks of resident memory; what processes share counts for each."""
    return sum(_status(descendants(roots), "VmHWM:"))


def resident_octets(roots: Iterable[int]) -> int:
    """Return the sum of what is resident now."""
    return sum(_status(descendants(roots), "VmRSS:"))


def proportional_octets(roots: Iterable[int]) -> int:
    """Return what is resident now, shared pages divided among those who share them."""
    total = 0
    for pid in descendants(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


def connections(pids: Iterable[int], port: int) -> list[int]:
    """Return how many connections to an IPv4 port of this machine each of the processes has."""
    accepted = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *others = line.split()
        if state == _ESTABLISHED and int(local.partition(":")[2], 16) == port:
            accepted.add(f"socket:[{others[5]}]")
    return [sum(each in accepted for each in _opened(pid)) for pid in pids]


def _opened(pid: int) -> Iterator[str]:
    """Return what the descriptors of a process are."""
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pids: Iterable[int], field: str) -> Iterator[int]:
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field):
                    yield int(line.split()[1]) << 10
