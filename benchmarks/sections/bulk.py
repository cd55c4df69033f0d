"""25 MiB messages, in the clear and under STARTTLS."""

from __future__ import annotations

import resource
from functools import partial
from statistics import median

from benchmarks.disk import Sequential, sequential
from benchmarks.load import Load
from benchmarks.rounds import Row, interleaved, one_round
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding
from benchmarks.servers.peers import Aiosmtpd, Nodemailer, SmtpSink, TwistedCanned, TwistedFiles
from benchmarks.servers.postfix import PostfixDiscarding
from benchmarks.servers.server import Server

SIZE = 25 << 20

DISK_RATE = "disk, MB/s"
DISK_CPU = "disk, CPU ms/message"
GENERATOR_CPU = "generator, CPU ms/message"


def large(run: Run) -> Section:
    """Four at a time, beside what the disk itself writes."""
    kinds = (
        OursDiscarding,
        SmtpSink,
        PostfixDiscarding,
        Nodemailer,
        TwistedFiles,
        Aiosmtpd,
        TwistedCanned,
    )
    load = Load(sessions=4, messages=4 if run.quick else 24, size=SIZE)
    return _bulk(run, kinds, load, "25 MiB, 4 at a time")


def tls(run: Run) -> Section:
    """The same under STARTTLS."""
    load = Load(sessions=4, messages=4 if run.quick else 16, size=SIZE, tls="starttls")
    kinds = (OursDiscarding, PostfixDiscarding, TwistedCanned)
    return _bulk(run, kinds, load, "25 MiB, STARTTLS")


def _bulk(run: Run, kinds: tuple[type[Server], ...], load: Load, what: str) -> Section:
    section = Section()
    written: list[Sequential] = []
    generators: list[float] = []
    with run.started(section, kinds) as servers:

        def turn(server: Server) -> Row:
            if server is servers[0]:
                written.append(sequential(run.workplace.directory, load.messages * SIZE))
            before = _children()
            row = one_round(run.workplace, server, load, what)
            generators.append((_children() - before) / load.messages * 1000)
            return row

        section.rows += interleaved(run.rounds, [partial(turn, each) for each in servers])
    if written:
        section.values[DISK_RATE] = median(each.rate for each in written)
        section.values[DISK_CPU] = median(each.cpu for each in written) * SIZE / (1 << 20)
        section.values[GENERATOR_CPU] = median(generators)
    return section


def _children() -> float:
    """Return the CPU seconds of the generators that have ended; the servers have not yet."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
