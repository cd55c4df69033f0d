"""Connections that only sit there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks import accounting
from benchmarks.load import IdleConnections, Load
from benchmarks.rounds import Row, interleaved, one_round
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding
from benchmarks.servers.peers import Aiosmtpd, Nodemailer, TwistedFiles
from benchmarks.servers.server import Server

ALONE, BESIDE = "nobody else there", "beside idle connections"


def idle(run: Run) -> Section:
    """What one costs, and what 10,000 of them do to the others."""
    section = Section()
    many, some = (500, 100) if run.quick else (10_000, 1_000)
    # A rate that leaves air, so that it is the latency which shows what the idle ones cost.
    load = Load(messages=int(500 * run.seconds), rate=500)
    with run.started(section, (OursDiscarding,)) as servers:
        for server in servers:
            turns = [
                partial(one_round, run.workplace, server, load, ALONE),
                partial(_beside, run, server, load, many),
            ]
            section.rows += interleaved(run.rounds, turns)
    with run.started(section, (OursDiscarding, TwistedFiles, Aiosmtpd, Nodemailer)) as servers:
        for server in servers:
            one_round(run.workplace, server, replace(load, rate=0, messages=500), "warm")
            count = many if server.key == "ours" else some
            section.values[f"{server.title}, plain, KiB"] = _octets_each(run, server, count) / 1024
            if server.key == "ours":
                octets = _octets_each(run, server, some, "starttls")
                section.values[f"{server.title}, TLS, KiB"] = octets / 1024
    section.values["connections"] = many
    return section


def _beside(run: Run, server: Server, load: Load, count: int) -> Row:
    with IdleConnections(run.workplace, server.port, count):
        return one_round(run.workplace, server, load, BESIDE)


def _octets_each(run: Run, server: Server, count: int, tls: str = "") -> float:
    before = accounting.resident_octets(server.pids)
    with IdleConnections(run.workplace, server.port, count, tls):
        server.rest()
        return (accounting.resident_octets(server.pids) - before) / count
