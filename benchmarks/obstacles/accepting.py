"""What is in the way of accepting faster, and sooner."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.parts.accepting import CONNECTION, CONVERSATION
from benchmarks.parts.storing import GROUPS, TAKING, UNSYNCED, writing
from benchmarks.sections.accepting import ONE_EACH, PIPELINED, ROUND_TRIPS, SESSIONS
from benchmarks.sections.alone import DISK
from benchmarks.sections.delivering import DISCARDED, HELD
from benchmarks.sections.scale import GROUPS as COMMITTED
from benchmarks.sections.scale import ONE, each
from benchmarks.wording import number, table

_MODES = (ROUND_TRIPS, PIPELINED)
#: The server that keeps what it gets, and does no more.
_KEEPER = "grouping"


def delivery(figures: Lookup) -> float:
    """Return the CPU us of a delivery that does nothing: claim, attempt, outcome, their log."""
    held = figures.figure("cpu", "webhook", "ours", HELD)
    return figures.figure("cpu", "webhook", "ours", DISCARDED) - held


def of_a_group(figures: Lookup) -> float:
    """Return the CPU us that a group takes whatever it holds, from groups of different sizes."""
    small, large = GROUPS[0], GROUPS[-1]
    difference = figures.value("parts", writing(small)) - figures.value("parts", writing(large))
    return difference / (1 / small - 1 / large)


def _alone(figures: Lookup, mode: str) -> float:
    """Return the CPU us of all parts of accepting a message, beside the reactor's.

    The groups are as many as there were in the service under that load.
    """
    group, largest = of_a_group(figures), GROUPS[-1]
    message = figures.value("parts", writing(largest)) - group / largest
    written = message + group * figures.value("processes", each(COMMITTED, ONE, mode))
    return figures.value("parts", CONVERSATION) + figures.value("parts", TAKING) + written


def rate(figures: Lookup) -> str:
    """Tell of the targets on rate and CPU, with connections kept."""
    names = (CONVERSATION, TAKING, *map(writing, GROUPS), UNSYNCED)
    parts = table(
        ("Part", "CPU µs/message"), [(name, figures.value("parts", name)) for name in names]
    )
    delivered = delivery(figures)
    rows: list[tuple[str, str, float, float, float, float, float, float]] = []
    beyond: list[str] = []
    for mode in _MODES:

        def figure(name: str, server: str, mode: str = mode) -> float:
            return figures.figure(name, "accept", server, mode)

        floor = figure("cpu", "canned")
        accepted = floor + _alone(figures, mode)
        for target, leaves in (
            ("rate ≥ smtp-sink's", 1e6 / figure("rate", "smtp-sink")),
            ("rate ≥ 8 × Postfix's", 1e6 / figure("rate", "postfix") / 8),
            ("CPU ≤ 1/10 of Postfix's", figure("cpu", "postfix") / 10),
            ("CPU ≤ 1/6 of aiosmtpd's", figure("cpu", "aiosmtpd") / 6),
        ):
            kept, whole = figure("cpu", _KEEPER), accepted + delivered
            rows.append((mode, target, leaves, floor, kept, accepted, whole, figure("cpu", "ours")))
            if (kept if "CPU" in target else 1e6 / figure("rate", _KEEPER)) > leaves:
                beyond.append(f"{target} ({mode})")
    short = sum(1 for row in rows if row[2] < row[6])
    budget = table(
        (
            "Load",
            "Target",
            "leaves",
            "reactor alone",
            "+ keeping",
            "+ accepting",
            "+ delivery",
            "mailsvc",
        ),
        rows,
    )
    return f"""\
A Twisted server that answers each command from a constant and keeps nothing shows what the kernel,
its poller and the reactor take ("reactor alone"). A second one keeps contents and rows besides, in
groups with their two syncs, as mailsvc does ("+ keeping"). It has no sessions, routes, deliveries
or log, so no server on Twisted that keeps mail in this way can be faster. {_missed(beyond)}

What mailsvc does beside the first, each part alone:

{parts}

Each message is delivered as well, here to a destination that forgets it; a claim, an attempt, an
outcome and the lines of the log took {number(delivered)} µs (accepted and delivered, less accepted
and held).

A target on the CPU leaves that CPU. A target on the rate leaves the time of one core: the threads
of a process share one interpreter lock, and the generator has the other core. All in µs/message,
with as many groups as the service made under that load:

{budget}

{short} of these {len(rows)} targets leave less than the parts take together. What mailsvc takes
beyond their sum is colder caches, and threads that take turns with one lock."""


def _missed(targets: list[str]) -> str:
    """Say which targets even the server that only keeps does not meet."""
    if not targets:
        return "It meets all of these targets."
    return f"It does not meet: {'; '.join(targets)}."


def connection(figures: Lookup) -> str:
    """Tell of the target on one message a connection."""

    def cpu(server: str, mode: str) -> float:
        return figures.figure("cpu", "accept", server, mode)

    fresh, kept = cpu("canned", ONE_EACH), cpu("canned", ROUND_TRIPS)
    own = figures.value("parts", CONNECTION)
    alone, delivered = _alone(figures, ROUND_TRIPS), delivery(figures)
    rows = [
        ("the message, for the kernel, its poller and the reactor", kept),
        ("its connection, for the same: accept, EHLO, QUIT, close", fresh - kept),
        (f"mailsvc, {CONNECTION}", own),
        ("mailsvc, the parts of accepting", alone),
        ("mailsvc, the delivery", delivered),
        ("all of these", fresh + own + alone + delivered),
        ("mailsvc, measured", cpu("ours", ONE_EACH)),
    ]
    leaves = 1e6 / figures.figure("rate", "accept", "postfix", ONE_EACH) / 4
    return f"""\
Four times Postfix's rate leaves {number(leaves)} µs of one core for a message and its connection;
the generator has to open and close as many.

{table(("Part", "CPU µs/message"), rows)}"""


def latency(figures: Lookup) -> str:
    """Tell of the targets on p99: what rate they ask for, and what a sync takes."""
    rows: list[tuple[str, str, float, float, float, float, float, float]] = []
    beyond: list[str] = []
    for mode in _MODES:
        ours = figures.row("accept", "ours", mode)
        sink = figures.row("accept", "smtp-sink", mode)
        postfix = figures.row("accept", "postfix", mode)
        canned = figures.row("accept", "canned", mode)
        keeper = figures.row("accept", _KEEPER, mode)
        cycle = SESSIONS / ours["rate"] * 1000
        # A closed loop: a message waits this part of the time between two of its session.
        part = min(1.0, ours["p50"] / cycle)
        for target, most in (
            ("1.5 × smtp-sink's", 1.5 * sink["p99"]),
            ("0.1 × Postfix's", 0.1 * postfix["p99"]),
        ):
            needed = part * SESSIONS / most * 1000
            rates = (ours["rate"], sink["rate"], canned["rate"], keeper["rate"])
            rows.append((mode, target, most, needed, *rates))
            if keeper["p99"] > most:
                beyond.append(f"p99 ≤ {target} ({mode}), with {number(keeper['p99'])} ms")
    headings = (
        "Load",
        "p99 ≤",
        "ms",
        "needs, messages/s",
        "mailsvc",
        "smtp-sink",
        "canned",
        "canned, and keeping",
    )
    disk = figures.row("accept", DISK)
    one = figures.row("accept", "ours", ROUND_TRIPS)
    cycle = SESSIONS / one["rate"] * 1000
    return f"""\
In a closed loop latency and rate are tied. With {SESSIONS} sessions each has one message under way,
so a session's messages follow each other every {SESSIONS} ÷ rate: {number(cycle)} ms at
{number(one["rate"])} messages/s. Half of the messages wait {number(one["p50"])} ms or longer of
that between their last octet and their 250, because the other {SESSIONS - 1} sessions' messages are
worked on meanwhile. If no message waited longer than the target allows, and the wait stayed the
same part of the whole, the rate had to be:

{table(headings, rows)}

A 250 also waits for two syncs, of the content and of the rows. One write and its sync, with nobody
else at the disk, took {number(disk["p50"])} ms at the median and {number(disk["p99"])} ms at p99,
so two take {number(2 * disk["p50"])} ms before anything else is done. smtp-sink and the canned
server sync nothing. The server that keeps contents and rows, and does nothing else, needs them as
well. {_missed(beyond)}"""
