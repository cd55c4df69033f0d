"""What is in the way of idle connections that cost nothing."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.sections.idle import (
    BEGIN,
    CANNED,
    END,
    FULL_BEGIN,
    FULL_BEGIN_WORST,
    FULL_LOAD,
    FULL_LOAD_WORST,
    NEW_CPU,
    OURS,
)
from benchmarks.wording import number, table


def memory(figures: Lookup) -> str:
    """Tell of the target on the memory of one."""
    bare, ours = figures.value("idle", CANNED), figures.value("idle", OURS)
    return f"""\
A Twisted transport and a protocol that does nothing, on it, take {number(bare)} KiB. What mailsvc
adds is {number(ours - bare)} KiB: the session and what it knows of its peer, one timer, the control
of the flow, and a place among the connections."""


def latency(figures: Lookup) -> str:
    """Tell of the target on others' p99."""
    names = (NEW_CPU, BEGIN, END, FULL_BEGIN, FULL_BEGIN_WORST, FULL_LOAD, FULL_LOAD_WORST)
    rows = [(name, figures.value("idle", name)) for name in names]
    return f"""\
The spools are in memory here, so that it is not the disk. What may grow with the number of
connections is work on each new or ended one, and a full collection of Python's garbage, which walks
all objects and stops everything meanwhile:

{table(("What", "Measured"), rows)}

The sessions of the load begin in each round, so what a new connection costs is in its p99."""
