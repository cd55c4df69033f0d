"""Accepting 10 KiB messages: rates, latencies, and both against sessions and load."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks import parts
from benchmarks.load import Load
from benchmarks.rounds import interleaved, one_round
from benchmarks.sections.alone import the_disk
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding, OursPlain
from benchmarks.servers.peers import (
    Aiosmtpd,
    Nodemailer,
    SmtpSink,
    TwistedCanned,
    TwistedFiles,
    TwistedGrouping,
)
from benchmarks.servers.postfix import PostfixDiscarding

_PEERS = (SmtpSink, PostfixDiscarding, Aiosmtpd, TwistedFiles, Nodemailer)
_ALL = (OursDiscarding, *_PEERS)
#: What they are compared with where they miss a target.
_LEAST = (TwistedGrouping, TwistedCanned)

#: Of every load here but the plots'.
SESSIONS = Load.sessions
ROUND_TRIPS = "one command per round trip"
PIPELINED = "pipelined"
ONE_EACH = "one message a connection"

_MODES = {
    ROUND_TRIPS: Load(),
    PIPELINED: Load(pipelined=True),
    ONE_EACH: Load(per_connection=1),
}

#: More than any server takes in a round.
_PLENTY = 15_000


def accept(run: Run) -> Section:
    """20 sessions, three ways of sending."""
    section = Section()
    with run.started(section, (OursDiscarding, OursPlain, *_PEERS, *_LEAST)) as servers:
        for what, mode in _MODES.items():
            load = replace(mode, messages=int(_PLENTY * run.seconds), seconds=run.seconds)
            turns = [partial(one_round, run.workplace, each, load, what) for each in servers]
            if what == ROUND_TRIPS:
                turns.append(partial(the_disk, run, section))
            section.rows += interleaved(run.rounds, turns)
    return section


def parts_alone(run: Run) -> Section:
    """What the parts of mailsvc cost, each alone."""
    directory = run.workplace.fresh("parts")
    return Section(values=parts.measure(directory, 5 if run.quick else 40))


def latency(run: Run) -> Section:
    """The same rate for all, that Postfix can still take: how long until 250."""
    section = Section()
    rate = 300.0
    load = Load(messages=int(rate * run.seconds * 2), rate=rate)
    with run.started(section, (OursDiscarding, SmtpSink, PostfixDiscarding, Aiosmtpd)) as servers:
        what = f"{rate:.0f} messages/s"
        turns = [partial(one_round, run.workplace, each, load, what) for each in servers]
        turns.append(partial(the_disk, run, section))
        section.rows += interleaved(run.rounds, turns)
    return section


def by_sessions(run: Run) -> Section:
    """The rate against the number of sessions."""
    section = Section()
    with run.started(section, _ALL) as servers:
        for sessions in (1, 20) if run.quick else (1, 2, 5, 10, 20, 50, 100):
            load = Load(
                sessions=sessions,
                messages=int(_PLENTY * run.seconds),
                seconds=run.seconds / 2,
                pipelined=True,
            )
            turns = [partial(one_round, run.workplace, s, load, str(sessions)) for s in servers]
            section.rows += interleaved(max(1, run.rounds // 2), turns)
    return section


def by_load(run: Run) -> Section:
    """The latency against the rate that comes in; a server is left out once it falls behind."""
    section = Section()
    with run.started(section, _ALL) as servers:
        left = list(servers)
        rates = (100, 1000) if run.quick else (100, 250, 500, 1000, 2000, 3000, 4000, 6000, 8000)
        for rate in rates:
            load = Load(
                messages=int(rate * run.seconds / 2), rate=rate, sessions=50, pipelined=True
            )
            turns = [partial(one_round, run.workplace, each, load, str(rate)) for each in left]
            rows = interleaved(max(1, run.rounds // 2), turns)
            section.rows += rows
            left = [s for s, row in zip(left, rows, strict=True) if row.rate > 0.9 * rate]
    return section
