"""One round of a server, and the medians of several, interleaved with those of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks import accounting
from benchmarks.check import CheckFailed, compare
from benchmarks.load import Load, Outcome, send
from benchmarks.servers.server import Server
from benchmarks.workplace import Workplace

#: Seconds for everything that was accepted to be delivered.
_DRAIN = 600.0

#: Compares what was delivered with what was sent, and says so.
Check = Callable[[Server, Load, Outcome], str]


@dataclass(frozen=True)
class Row:
    """What one server did under one load: medians over the rounds.

    :ivar what: the load, in words.
    :ivar rate: messages per second; until the last was delivered where the section says drained.
    :ivar p50: from the end of a message to its 250, in milliseconds; so are ``p99`` and ``p999``.
    :ivar cpu: microseconds of user and system time per message, of all its processes.
    :ivar peak: of resident memory over all its processes, in MiB.
    :ivar above: how far that is above what was resident before, in MiB.
    :ivar checked: how it was seen that nothing is missing.
    :ivar spread: the rates of the slowest and the fastest round.
    """

    server: str
    title: str
    what: str
    durable: bool
    rate: float
    p50: float
    p99: float
    p999: float
    cpu: float
    peak: float
    above: float
    rounds: int
    checked: str
    messages: int
    spread: tuple[float, float]


def one_round(
    workplace: Workplace,
    server: Server,
    load: Load,
    what: str,
    drained: Callable[[], int] | None = None,
    check: Check | None = None,
) -> Row:
    """Let the generator run once.

    :param drained: says how many were delivered so far; the round then lasts until all were.
    :param check: in place of comparing what the server stored.
    :raises CheckFailed: something that was acknowledged is missing or differs.
    """
    server.clear()
    server.rest()
    before = accounting.resident_octets(server.pids)
    accounting.forget_peaks(server.pids)
    spent, began = server.cpu(), time.monotonic()
    outcome = send(workplace, server.port, load)
    server.alive()
    if drained is None:
        seconds = outcome.seconds
    else:
        while drained() < outcome.acknowledged:
            if time.monotonic() - began > _DRAIN:
                raise CheckFailed(f"{server.title} delivered {drained()} of {outcome.acknowledged}")
            time.sleep(0.05)
        seconds = time.monotonic() - began
    server.rest()
    cpu = server.cpu() - spent
    rate = outcome.acknowledged / seconds
    peak = accounting.peak_octets(server.pids)
    checked = (check or _stored)(server, load, outcome)
    server.clear()
    return Row(
        server=server.key,
        title=server.title,
        what=what,
        durable=server.durable,
        rate=rate,
        p50=outcome.p50,
        p99=outcome.p99,
        p999=outcome.p999,
        cpu=cpu / outcome.acknowledged * 1e6,
        peak=peak / (1 << 20),
        above=(peak - before) / (1 << 20),
        rounds=1,
        checked=checked,
        messages=outcome.acknowledged,
        spread=(rate, rate),
    )


def _stored(server: Server, load: Load, outcome: Outcome) -> str:
    """Compare the stored mails, or count the deliveries where the server keeps none."""
    stored = server.stored()
    if stored is not None:
        return compare(server.workplace, load, outcome, stored)
    counted = server.counted()
    if counted is None:
        return "no: keeps nothing"
    if counted != outcome.acknowledged * load.recipients:
        raise CheckFailed(f"{server.title}: {outcome.acknowledged} accepted, {counted} delivered")
    return "counted"


def medians(rows: Sequence[Row]) -> Row:
    """Return the rounds of one server under one load as one row."""
    first = rows[0]
    rates = [each.rate for each in rows]

    def middle(name: str) -> float:
        return float(median(getattr(each, name) for each in rows))

    return Row(
        server=first.server,
        title=first.title,
        what=first.what,
        durable=first.durable,
        rate=middle("rate"),
        p50=middle("p50"),
        p99=middle("p99"),
        p999=middle("p999"),
        cpu=middle("cpu"),
        peak=max(each.peak for each in rows),
        above=max(each.above for each in rows),
        rounds=len(rows),
        checked=max((each.checked for each in rows), key=len),
        messages=sum(each.messages for each in rows),
        spread=(min(rates), max(rates)),
    )


def together(rows: Sequence[Row], server: str, title: str) -> Row:
    """Return what several servers did at the same time as the row of one.

    Latencies are those of the slowest.
    """
    messages = sum(each.messages for each in rows)
    rate = sum(each.rate for each in rows)
    return replace(
        rows[0],
        server=server,
        title=title,
        rate=rate,
        p50=max(each.p50 for each in rows),
        p99=max(each.p99 for each in rows),
        p999=max(each.p999 for each in rows),
        cpu=sum(each.cpu * each.messages for each in rows) / messages,
        peak=sum(each.peak for each in rows),
        above=sum(each.above for each in rows),
        messages=messages,
        spread=(rate, rate),
    )


def rounds_of(rounds: int, turns: Sequence[Callable[[], Row]]) -> list[list[Row]]:
    """Let all take their turns in order, ``rounds`` times; return the rows of each."""
    results: list[list[Row]] = [[] for _ in turns]
    for _ in range(rounds):
        for kept, turn in zip(results, turns, strict=True):
            row = turn()
            kept.append(row)
            print(
                f"  {row.title}, {row.what}: {row.rate:,.0f}/s, p99 {row.p99:.2f} ms,"
                f" {row.cpu:,.0f} us, {row.peak:.0f} MiB, {row.checked}",
                flush=True,
            )
    return results


def interleaved(rounds: int, turns: Sequence[Callable[[], Row]]) -> list[Row]:
    """Let all take their turns in order, ``rounds`` times; return a row of medians for each."""
    return [medians(each) for each in rounds_of(rounds, turns)]


def paired(figure: str, before: Sequence[Row], after: Sequence[Row]) -> float:
    """Return the median of what ``figure`` grew by within each pair of turns.

    Both turns of a pair met the same minute of the machine, so this is steadier than the ratio of
    two medians.
    """
    return float(
        median(
            getattr(late, figure) / getattr(early, figure)
            for early, late in zip(before, after, strict=True)
        )
    )
