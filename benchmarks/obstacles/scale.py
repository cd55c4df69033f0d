"""What is in the way of a second process that costs nothing."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.obstacles.accepting import of_a_group
from benchmarks.parts.storing import GROUPS
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS
from benchmarks.sections.scale import ONE, TWO, groups, jobs
from benchmarks.wording import number, table


def processes(figures: Lookup) -> str:
    """Tell of the targets on the CPU of two."""
    cost = of_a_group(figures)
    rows = []
    for mode in (ROUND_TRIPS, PIPELINED):
        one, two = (figures.value("processes", groups(count, mode)) for count in (ONE, TWO))
        more = figures.figure("cpu", "processes", "ours-twice", mode) - figures.figure(
            "cpu", "processes", "ours", mode
        )
        rows.append(
            (
                mode,
                one,
                two,
                figures.value("processes", jobs(ONE, mode)),
                figures.value("processes", jobs(TWO, mode)),
                (two - one) * cost,
                more,
            )
        )
    headings = (
        "Load",
        "groups/message, one",
        "two",
        "jobs/group, one",
        "two",
        "more groups cost, µs/message",
        "more CPU measured, µs/message",
    )
    return f"""\
The same sessions are spread over two writers, so each has smaller groups to commit, and there are
more of them. A group costs {number(cost)} µs whatever it holds: its transaction, its share of the
write-ahead log, two syncs (from the writer's figures for groups of {GROUPS[0]} and {GROUPS[-1]}).
Claims and outcomes of deliveries are jobs in groups as well.

{table(headings, rows)}

What is left of the difference is twice the turns of a reactor, locks of the database that are
waited for, and two interpreters in one core's cache."""
