"""What is in the way of a second process that costs nothing."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.obstacles.accepting import of_a_group
from benchmarks.parts.turning import TURN, WAIT
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS, SESSIONS
from benchmarks.sections.scale import APART, GROUPS, ONE, TURNS, TWO, WAITS, each, halved
from benchmarks.wording import number, table

_MODES = (ROUND_TRIPS, PIPELINED)


def processes(figures: Lookup) -> str:
    """Tell of the targets on the CPU of two."""
    half = SESSIONS // 2
    rows = []
    for mode in _MODES:

        def cpu(server: str, what: str = mode) -> float:
            return figures.figure("cpu", "processes", server, what)

        whole = cpu("ours")
        others = (cpu("ours", halved(mode)), cpu("ours-twice"), cpu(APART))
        rows.append((mode, whole, *others, number(cpu(APART) / whole) + " ×"))
    headings = (
        "Load",
        f"one process, {SESSIONS} sessions",
        f"one, {half}",
        f"two, {SESSIONS}",
        f"two services, {half} each",
        "that is",
    )
    return f"""\
Two whole services that share nothing, each with half of the sessions, show what comes of dividing
the sessions and of having two processes beside the generator on these cores. What two processes
with one spool take beyond that is what sharing costs. In CPU µs/message:

{table(headings, rows)}

A process that finds less to do at a time makes more turns, waits more often, and commits more and
smaller groups:

{_counts(figures)}"""


def _counts(figures: Lookup) -> str:
    rows: list[tuple[str, str, float, float, float, float]] = []
    for mode in _MODES:
        for what, cost in (
            (GROUPS, of_a_group(figures)),
            (TURNS, figures.value("parts", TURN)),
            (WAITS, figures.value("parts", WAIT)),
        ):
            one, two = (figures.value("processes", each(what, n, mode)) for n in (ONE, TWO))
            rows.append((mode, what, one, two, cost, (two - one) * cost))
    return table(
        ("Load", "For each message", "one process", "two", "µs each, alone", "more, µs"), rows
    )
