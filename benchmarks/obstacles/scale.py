"""What is in the way of a second process that costs nothing."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.obstacles.accepting import of_a_group
from benchmarks.parts.turning import TURN, WAIT
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS, SESSIONS
from benchmarks.sections.scale import APART, GROUPS, ONE, TURNS, TWO, WAITS, each, halved
from benchmarks.targets import DIVIDED
from benchmarks.wording import number, table

_MODES = (ROUND_TRIPS, PIPELINED)
_DIVIDING = "Dividing the sessions costs"
_NOTHING_SHARED = "A second service that shares nothing with the first costs"


def processes(figures: Lookup) -> str:
    """Tell of the targets on the CPU of two."""
    half = SESSIONS // 2
    rows: list[tuple[str | float, ...]] = []
    beyond: dict[str, list[str]] = {_DIVIDING: [], _NOTHING_SHARED: []}
    for mode in _MODES:

        def cpu(server: str, what: str = mode) -> float:
            return figures.figure("cpu", "processes", server, what)

        whole = cpu("ours")
        row: list[str | float] = [mode, whole]
        for cost in (cpu("ours", halved(mode)), cpu(APART), cpu("ours-twice")):
            row += [cost, f"{number(cost / whole)} ×"]
        for what, cost in zip(beyond, (cpu("ours", halved(mode)), cpu(APART)), strict=True):
            if cost > DIVIDED * whole:
                beyond[what].append(mode)
        rows.append(tuple(row))
    headings = (
        "Load",
        f"one process, {SESSIONS} sessions",
        f"one, {half}",
        "that is",
        f"two services, {half} each",
        "that is",
        f"two processes, {SESSIONS}",
        "that is",
    )
    return f"""\
One process with half of the sessions, and no other beside it, shows what dividing the sessions
costs by itself: a turn, a wait and a group are shared by half as many messages. Two whole services
that share nothing, each with half of the sessions, show what two processes beside the generator on
these cores cost besides: three that take turns on two cores push each other out of them and of
their caches. What two processes with one spool take beyond that is what sharing costs. In CPU
µs/message:

{table(headings, rows)}
{_beyond(beyond)}
A process that finds less to do at a time makes more turns, waits more often, and commits smaller
groups:

{_counts(figures)}"""


def _beyond(beyond: dict[str, list[str]]) -> str:
    """Say what costs more than the target allows although no spool is shared, and where."""
    said = [
        f"\n{what} more by itself than the target allows ({'; '.join(modes)}).\n"
        for what, modes in beyond.items()
        if modes
    ]
    return "".join(said)


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
