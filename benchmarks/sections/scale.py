"""Two processes, a large backlog, and half an hour."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks import accounting
from benchmarks.load import Load, send
from benchmarks.rounds import Row, interleaved, one_round, together
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import (
    OursApart,
    OursBehindBacklog,
    OursDiscarding,
    OursOnceNoting,
    OursTwice,
    OursTwiceNoting,
)
from benchmarks.servers.server import Server
from benchmarks.shares import Watch, evenly

#: The server of the row of two services.
APART = "apart"
ONE, TWO = "one process", "two processes"
GROUPS, TURNS, WAITS = "groups committed", "turns of the reactor", "waits of a thread"


def each(what: str, count: str, load: str) -> str:
    """Return the name of a figure by message, for so many processes under one load."""
    return f"{what} for each message, {count}, {load}"


def halved(what: str) -> str:
    """Return the name of a load on half of the sessions."""
    return f"{what}, half of the sessions"


def _apart(run: Run, servers: Sequence[Server], load: Load, what: str) -> Row:
    """Let two services that share nothing have half of the sessions each, at the same time."""
    with ThreadPoolExecutor(len(servers)) as pool:
        rows = pool.map(lambda server: one_round(run.workplace, server, load, what), servers)
        return together([*rows], APART, "mailsvc, two services that share nothing")


def _watched(run: Run, server: Server, load: Load, what: str) -> tuple[Row, Sequence[int]]:
    """Let a server have a round; return what share of the connections each process had, too."""
    with Watch(server, load.sessions) as watch:
        row = one_round(run.workplace, server, load, what)
    return row, watch.shares


def _counted(
    run: Run, section: Section, kind: type[Server], load: Load
) -> tuple[dict[str, float], Sequence[int]]:
    """Return how a server's work is grouped, by message, and the shares of its processes.

    It is seen from within: a server is started for it alone.
    """
    with run.started(section, (kind,)) as servers:
        for server in servers:
            assert isinstance(server, (OursOnceNoting, OursTwiceNoting))
            with Watch(server, load.sessions) as watch:
                sent = send(run.workplace, server.port, load).acknowledged
            server.rest()
            server.stop()
            notes = server.notes()
            counts = {GROUPS: notes.groups, TURNS: notes.turns, WAITS: notes.waits}
            return {name: count / sent for name, count in counts.items()}, watch.shares
    return {}, (1,)


def processes(run: Run) -> Section:
    """One process and two, on one spool and one port."""
    section = Section()
    # Of clients that all come in the same millisecond the process that has a core then takes nearly
    # all, and one that has nothing to do costs nothing.
    load = Load(messages=int(10_000 * run.seconds), seconds=run.seconds, apart=10)
    for what, each_load in {ROUND_TRIPS: load, PIPELINED: replace(load, pipelined=True)}.items():
        shares: list[str] = []
        with run.started(section, (OursDiscarding, OursTwice, OursApart)) as servers:
            half = replace(each_load, sessions=each_load.sessions // 2)
            turns: list[Callable[[], Row]] = []
            for server in servers:
                if isinstance(server, OursTwice):
                    watched = partial(_watched, run, server, each_load, what)
                    turns.append(partial(evenly, watched, shares))
                elif not isinstance(server, OursApart):
                    turns.append(partial(one_round, run.workplace, server, each_load, what))
            if len(servers) == 3:
                one, _, other = servers
                turns.append(partial(one_round, run.workplace, one, half, halved(what)))
                turns.append(partial(_apart, run, (one, other), half, what))
            section.rows += interleaved(run.rounds, turns)
        for count, kind in ((ONE, OursOnceNoting), (TWO, OursTwiceNoting)):
            counted = partial(_counted, run, section, kind, each_load)
            for name, number in evenly(counted, shares if count == TWO else []).items():
                section.values[each(name, count, what)] = number
        if shares:
            section.remarks.append(
                f"connections of the two processes, round by round, {what}: {', '.join(shares)}"
            )
    return section


def backlog(run: Run) -> Section:
    """The rate with and without deliveries that wait."""
    section = Section()
    waiting = 10_000 if run.quick else 1_000_000
    load = Load(messages=int(10_000 * run.seconds), seconds=run.seconds, pipelined=True)
    with run.started(section, (OursDiscarding, OursBehindBacklog)) as servers:
        full = servers[-1]
        assert isinstance(full, OursBehindBacklog)
        full.operate("pause", "held")
        began = time.monotonic()
        recipients = 1000
        filling = Load(
            sessions=4,
            messages=waiting // recipients,
            recipients=recipients,
            to="u%u@held.example.com",
            pipelined=True,
        )
        send(run.workplace, full.port, filling, patience=600)
        section.values["deliveries waiting"] = waiting
        section.values["accepted per second while filling"] = waiting / (time.monotonic() - began)
        turns = [partial(one_round, run.workplace, each, load, "pipelined") for each in servers]
        section.rows += interleaved(run.rounds, turns)
    return section


def soak(run: Run) -> Section:
    """A steady load for long: memory has to stay as it is."""
    section = Section()
    # Far below what it can: the memory is watched, and other sections may run beside it.
    rate = 200.0
    seconds = 20 if run.quick else run.soak_seconds
    # Few sessions: one that has nothing to say for five minutes is told to go.
    load = Load(messages=int(rate * seconds), rate=rate, sessions=3)
    samples: list[float] = []
    with run.started(section, (OursDiscarding,)) as servers:
        for server in servers:
            ended = threading.Event()
            sampling = threading.Thread(target=_sample, args=(server, ended, samples))
            sampling.start()
            try:
                section.rows.append(
                    one_round(run.workplace, server, load, f"{rate:.0f}/s for {seconds:.0f} s")
                )
            finally:
                ended.set()
                sampling.join()
    tenth = max(1, len(samples) // 10)
    # The first tenth is the warming up: pools, caches, the first segments.
    section.values["resident after a tenth, MiB"] = median(samples[tenth : 2 * tenth])
    section.values["resident at the end, MiB"] = median(samples[-tenth:])
    section.values["seconds"] = seconds
    return section


def _sample(server: Server, ended: threading.Event, samples: list[float]) -> None:
    while not ended.wait(1):
        samples.append(accounting.resident_octets(server.pids) / (1 << 20))
