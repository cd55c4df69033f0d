"""Connections that only sit there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks import accounting
from benchmarks.load import IdleConnections, Load, send
from benchmarks.rounds import Row, medians, one_round, paired, rounds_of
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding, OursInMemory, OursInMemoryToo, OursNoting
from benchmarks.servers.peers import Aiosmtpd, Nodemailer, TwistedCanned, TwistedFiles
from benchmarks.servers.server import Server

ALONE, BESIDE = "nobody else there", "beside idle connections"
#: The same, but each message comes on a connection of its own.
NEW_ALONE, NEW_BESIDE = f"a connection each, {ALONE}", f"a connection each, {BESIDE}"

P99 = "p99 beside idle connections ÷ p99 without, median of pairs"
NEW_CPU = "CPU of a message on a connection of its own, ÷ without, median of pairs"
BEGIN = "CPU µs to take in an idle connection"
END = "CPU µs for the end of an idle connection"
FULL_BEGIN = "full collections of Python's garbage while they connected"
FULL_BEGIN_WORST = "the longest of them, ms"
FULL_LOAD = "full collections in a minute of the load beside them"
FULL_LOAD_WORST = "the longest of these, ms"

CANNED = f"{TwistedCanned.title}, plain, KiB"
OURS = f"{OursDiscarding.title}, plain, KiB"


def idle(run: Run) -> Section:
    """What one costs, and what 10,000 of them do to the others."""
    section = Section()
    many, some = (2_000, 100) if run.quick else (10_000, 1_000)
    # Half as long as others' and four times as many: it is the pairs that count.
    seconds = run.seconds / 2
    # A rate that leaves air, so that it is the latency which shows what the idle ones cost.
    steady = Load(messages=int(500 * seconds), rate=500)
    new = Load(messages=int(10_000 * seconds), seconds=seconds, per_connection=1)
    with run.started(section, (OursInMemory, OursInMemoryToo)) as servers:
        if len(servers) == 2:
            _say_where(run, section)
            pairs = 1 if run.quick else 4 * run.rounds
            found = _pairs(run, section, servers, steady, many, pairs, (ALONE, BESIDE))
            section.values[P99] = paired("p99", *found)
            found = _pairs(run, section, servers, new, many, run.rounds, (NEW_ALONE, NEW_BESIDE))
            section.values[NEW_CPU] = paired("cpu", *found)
    _note(run, section, steady, many)
    kinds = (OursDiscarding, TwistedFiles, TwistedCanned, Aiosmtpd, Nodemailer)
    with run.started(section, kinds) as servers:
        for server in servers:
            one_round(run.workplace, server, replace(steady, rate=0, messages=500), "warm")
            # As many of the floor as of ours; the others' take more, and more time.
            count = many if server.key in ("ours", TwistedCanned.key) else some
            section.values[f"{server.title}, plain, KiB"] = _octets_each(run, server, count) / 1024
            if server.key == "ours":
                octets = _octets_each(run, server, some, "starttls")
                section.values[f"{server.title}, TLS, KiB"] = octets / 1024
    section.values["connections"] = many
    return section


def _say_where(run: Run, section: Section) -> None:
    memory = run.workplace.memory
    section.remarks.append(
        f"the spools of the servers in the table lay in memory ({memory.parent}), so that the disk"
        " does not decide"
        if memory
        else "the spools of the servers in the table lay on the disk, as there is no /dev/shm: its"
        " stalls are in the figures"
    )


def _pairs(
    run: Run,
    section: Section,
    servers: Sequence[Server],
    load: Load,
    count: int,
    pairs: int,
    what: tuple[str, str],
) -> tuple[list[Row], list[Row]]:
    """Let two servers take turns under one load; the second has the idle connections.

    They stay for all turns, and within the time that a connection may say nothing.
    """
    for server in servers:
        one_round(run.workplace, server, replace(load, rate=0, messages=500), "warm")
    turns = [
        partial(one_round, run.workplace, server, load, each)
        for server, each in zip(servers, what, strict=True)
    ]
    with IdleConnections(run.workplace, servers[1].port, count):
        servers[1].rest()
        without, beside = rounds_of(pairs, turns)
    servers[1].rest()
    section.rows += [medians(without), medians(beside)]
    return without, beside


def _note(run: Run, section: Section, load: Load, count: int) -> None:
    """Look from within: what idle connections cost to begin and to end, and what is collected."""
    with run.started(section, (OursNoting,)) as servers:
        for server in servers:
            assert isinstance(server, OursNoting)
            send(run.workplace, server.port, replace(load, rate=0, messages=500))
            server.rest()
            before, connecting = server.cpu(), time.time()
            with IdleConnections(run.workplace, server.port, count):
                server.rest()
                section.values[BEGIN] = (server.cpu() - before) / count * 1e6
                began = time.time()
                send(run.workplace, server.port, load)
                lasted = time.time() - began
                server.rest()
                before = server.cpu()
            server.rest()
            section.values[END] = (server.cpu() - before) / count * 1e6
            server.stop()
            full = server.notes().collections
            first = [taken for when, taken in full if connecting <= when < began]
            later = [taken for when, taken in full if began <= when < began + lasted]
            section.values[FULL_BEGIN] = len(first)
            section.values[FULL_BEGIN_WORST] = max(first, default=0.0) * 1000
            section.values[FULL_LOAD] = len(later) / lasted * 60
            section.values[FULL_LOAD_WORST] = max(later, default=0.0) * 1000


def _octets_each(run: Run, server: Server, count: int, tls: str = "") -> float:
    before = accounting.resident_octets(server.pids)
    with IdleConnections(run.workplace, server.port, count, tls):
        server.rest()
        return (accounting.resident_octets(server.pids) - before) / count
