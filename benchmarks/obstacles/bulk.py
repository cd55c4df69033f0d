"""What is in the way of large messages."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.parts.accepting import SEARCHING
from benchmarks.sections.bulk import DISK_CPU, DISK_RATE, GENERATOR_CPU, SIZE
from benchmarks.wording import number, table


def large(figures: Lookup) -> str:
    """Tell of the targets on the disk's rate and on Postfix's CPU."""
    share = 0.35 * figures.figure("cpu", "large", "postfix") / 1000
    least = sum(_parts(figures, "large").values())
    return f"""\
{_told(figures, "large", 0.9 * figures.value("large", DISK_RATE), "0.9 × the disk's own rate")}

0.35 × Postfix's CPU is {number(share)} ms; receiving, searching and writing take {number(least)} ms
alone."""


def starttls(figures: Lookup) -> str:
    """Tell of the target on Postfix's rate."""
    postfix = figures.figure("rate", "tls", "postfix") * SIZE / 1e6
    return _told(figures, "tls", 2 * postfix, "2 × Postfix's rate")


def _parts(figures: Lookup, section: str) -> dict[str, float]:
    """Return what a server cannot leave out, in CPU ms per message."""
    return {
        "receiving alone (Twisted, keeps nothing)": figures.figure("cpu", section, "canned") / 1000,
        SEARCHING: figures.value("parts", SEARCHING) / 1000,
        "writing alone, 1 MiB at a time, and a sync": figures.value(section, DISK_CPU),
    }


def _told(figures: Lookup, section: str, target: float, named: str) -> str:
    cores = float(figures.machine["cores"])
    parts = _parts(figures, section)
    generator = figures.value(section, GENERATOR_CPU)
    received = figures.figure("rate", section, "canned") * SIZE / 1e6
    ours = figures.figure("cpu", section, "ours") / 1000
    rows: list[tuple[str, float]] = [("the generator", generator), *parts.items()]
    rows.append(("all of these", generator + sum(parts.values())))
    rows.append(("mailsvc with the generator, measured", generator + ours))
    each = SIZE / 1e6 / target * 1000
    return f"""\
The target is {named}: {number(target)} MB/s, a message every {number(each)} ms, in which the
{cores:.0f} cores have {number(cores * each)} ms of CPU, for the generator as well. Receiving
alone, with nothing searched and nothing kept, reaches {number(received)} MB/s.

{table(("Part", "CPU ms/message"), rows)}"""
