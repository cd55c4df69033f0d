"""What the disk does alone, as a turn between those of the servers."""

from __future__ import annotations

from benchmarks.disk import steady_syncs
from benchmarks.rounds import Row
from benchmarks.sections.run import Run, Section

#: The server of its rows.
DISK = "disk"
#: Synced writes per second, and seconds of a turn.
_RATE, _SECONDS = 300.0, 2.0
WORST = "the disk alone, its worst synced write, ms"


def the_disk(run: Run, section: Section) -> Row:
    """Let nobody but the disk work: synced writes of 10 KiB, one after the other."""
    writes = steady_syncs(run.workplace.directory, _RATE, min(_SECONDS, run.seconds))
    worst = writes.quantile(1)
    section.values[WORST] = max(worst, section.values.get(WORST, 0.0))
    return Row(
        server=DISK,
        title="the disk alone: a write of 10 KiB and its sync",
        what=f"{_RATE:.0f} writes/s",
        durable=True,
        rate=writes.rate,
        p50=writes.quantile(0.5),
        p99=writes.quantile(0.99),
        p999=writes.quantile(0.999),
        cpu=writes.cpu,
        peak=0.0,
        above=0.0,
        rounds=1,
        checked="-",
        messages=len(writes),
        spread=(writes.rate, writes.rate),
    )
