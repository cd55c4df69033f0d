"""25 MiB messages, in the clear and under STARTTLS."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.disk import sequential_rate
from benchmarks.load import Load
from benchmarks.rounds import Row, interleaved, one_round
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding
from benchmarks.servers.peers import Aiosmtpd, Nodemailer, SmtpSink, TwistedFiles
from benchmarks.servers.postfix import PostfixDiscarding

SIZE = 25 << 20


def large(run: Run) -> Section:
    """Four at a time, beside what the disk itself writes."""
    section = Section()
    load = Load(sessions=4, messages=4 if run.quick else 24, size=SIZE)
    kinds = (OursDiscarding, SmtpSink, PostfixDiscarding, Nodemailer, TwistedFiles, Aiosmtpd)
    rates: list[float] = []
    with run.started(section, kinds) as servers:

        def ours(server: object) -> Row:
            rates.append(sequential_rate(run.workplace.directory, load.messages * SIZE))
            return one_round(run.workplace, servers[0], load, "25 MiB, 4 at a time")

        turns = [partial(ours, servers[0])] if servers else []
        turns += [
            partial(one_round, run.workplace, each, load, "25 MiB, 4 at a time")
            for each in servers[1:]
        ]
        section.rows += interleaved(run.rounds, turns)
    section.values["disk, MB/s"] = median(rates)
    return section


def tls(run: Run) -> Section:
    """The same under STARTTLS."""
    section = Section()
    load = Load(sessions=4, messages=4 if run.quick else 16, size=SIZE, tls="starttls")
    with run.started(section, (OursDiscarding, PostfixDiscarding)) as servers:
        turns = [
            partial(one_round, run.workplace, each, load, "25 MiB, STARTTLS") for each in servers
        ]
        section.rows += interleaved(run.rounds, turns)
    return section
