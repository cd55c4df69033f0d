"""Two processes, a large backlog, and half an hour."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks import accounting
from benchmarks.load import Load, send
from benchmarks.rounds import interleaved, one_round
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import (
    OursBehindBacklog,
    OursDiscarding,
    OursOnceNoting,
    OursTwice,
    OursTwiceNoting,
)
from benchmarks.servers.server import Server


def groups(count: str, what: str) -> str:
    """Return the name of the figure of groups by message, for so many processes under one load."""
    return f"groups for each message, {count}, {what}"


def jobs(count: str, what: str) -> str:
    """Return the name of the figure of jobs by group."""
    return f"jobs in a group, {count}, {what}"


ONE, TWO = "one process", "two processes"


def processes(run: Run) -> Section:
    """One process and two, on one spool and one port."""
    section = Section()
    load = Load(messages=int(10_000 * run.seconds), seconds=run.seconds)
    loads = {ROUND_TRIPS: load, PIPELINED: replace(load, pipelined=True)}
    with run.started(section, (OursDiscarding, OursTwice)) as servers:
        for what, each_load in loads.items():
            turns = [partial(one_round, run.workplace, s, each_load, what) for s in servers]
            section.rows += interleaved(run.rounds, turns)
    # How the work is grouped is seen from within; these are started for it alone.
    for what, each_load in loads.items():
        for count, kind in ((ONE, OursOnceNoting), (TWO, OursTwiceNoting)):
            with run.started(section, (kind,)) as servers:
                for server in servers:
                    assert isinstance(server, (OursOnceNoting, OursTwiceNoting))
                    sent = send(run.workplace, server.port, each_load).acknowledged
                    server.rest()
                    server.stop()
                    notes = server.notes()
                    section.values[groups(count, what)] = notes.groups / sent
                    section.values[jobs(count, what)] = notes.jobs / max(1, notes.groups)
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
