"""docs/benchmarks.md, written from the figures: no number in it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.obstacles import in_the_way
from benchmarks.sections.accepting import ROUND_TRIPS
from benchmarks.sections.bulk import SIZE
from benchmarks.targets import verdicts
from benchmarks.wording import number
from benchmarks.workplace import HERE

PAGE = HERE.parent / "docs" / "benchmarks.md"

_HEADINGS = {
    "accept": (
        "Accepting",
        "10 KiB messages, 20 sessions, as fast as each server takes them. p50 and p99 are from the"
        " last octet of a message to its 250.",
    ),
    "latency": (
        "The same load for all",
        "20 sessions, a rate that every server takes. p50 and p99 are from the moment at which a"
        " message was due to its 250, so a server that falls behind cannot hide it; those of the"
        " disk are of a write and its sync.",
    ),
    "large": ("Large messages", "25 MiB messages, four at a time."),
    "tls": ("Large messages under STARTTLS", "25 MiB messages, four at a time."),
    "idle": (
        "Idle connections",
        "Two servers take turns, one of which has connections that said EHLO and nothing more:"
        " under a steady load of 500 messages/s on 20 connections, and with a connection for each"
        " message, as fast as they are taken. And what one adds to the resident memory.",
    ),
    "maildir": (
        "To a maildir",
        "10 KiB messages, 20 sessions; the rate is until the last one is filed.",
    ),
    "webhook": (
        "To a webhook",
        "10 KiB multipart messages, 20 sessions; the rate is until the receiver has answered for"
        " the last one. mailsvc parses each mail and posts JSON, the peers post it as it came.",
    ),
    "processes": (
        "Two processes",
        "One spool, one port, passed as systemd passes it. The generator shares the cores, so it"
        " is the CPU that says something. The sessions connect 10 ms apart; rounds in which"
        " a process had less than a third of them are left out.",
    ),
    "backlog": ("A backlog", "The rate of accepting while a paused destination holds deliveries."),
    "soak": ("A soak", "A steady load; resident memory early on and at the end."),
}

_INTRODUCTION = """\
# Benchmarks

What mailsvc costs, beside its peers, on one machine and in one run. Written by
`python -m benchmarks --write-docs`; no number here is typed by hand.

Rates depend on the machine, and the load generator runs on the same cores. Read ratios, and CPU per
message, which is steadier. Where the load average at the end of a section is above what the servers
and the generator can make of the cores, others were using the machine as well, and *least–most*,
the rates of the slowest and the fastest round, lie far apart. Figures are medians of the rounds, in
which the servers took turns.

*Durable* says whether a message is on stable storage before its 250. *CPU* is user and system time
of all processes of the server. *Peak* is the sum of their peaks of resident memory; what processes
share counts for each of them.

*Checked* says how it was seen, in each round, that nothing is missing. Each message has a token;
*compared* means that each one which got a 250 was found stored or posted, and was octet for octet
what was sent (of JSON payloads: text and HTML). *Counted* means that a server which discards its
mail said as often that it had delivered as it had said 250.

*The disk alone* takes turns with the servers: synced writes of 10 KiB into a file that is there
already, one after the other at a steady rate, and nobody else. A disk that stalls by itself shows
in that row's p99, and in the worst of its writes below the table; it is in the p99 of every durable
server as well.
"""

_METHOD = """\
## Run it

```sh
python3 -m venv .venv && MAILSVC_COMPILE=1 .venv/bin/pip install -e '.[bench]'
.venv/bin/python -m benchmarks --install        # the peers: Debian, PyPI, npm; as root
.venv/bin/python -m benchmarks                  # everything: 25 minutes, then the soak
.venv/bin/python -m benchmarks --only accept --peers ours,smtp-sink
.venv/bin/python -m benchmarks --only soak      # half an hour; --soak-seconds for another time
.venv/bin/python -m benchmarks --only idle      # 10,000 idle connections
.venv/bin/python -m benchmarks --only backlog   # 1,000,000 deliveries waiting
.venv/bin/python -m benchmarks --only parts     # what the parts of mailsvc cost alone
.venv/bin/python -m benchmarks --only profiles  # the flame graphs
.venv/bin/python -m benchmarks --write-docs     # this page and its pictures
```

Everything lies in `benchmarks/`: the generator and the HTTP receiver in C, the peers with their
configurations in `servers/` and `programs/`, the sections in `sections/`. What they build and store
goes to `/var/tmp/mailsvc-benchmarks`, or where `--work` says; put it on the disk that you mean to
measure. Only the servers that are compared with and without idle connections have their spools in
`/dev/shm`, if it is there. Postfix needs root. What is not installed is left out, with a note.

"What is in the way" needs a run of all sections with all servers: what mailsvc's parts cost is in
`parts/`, what they are compared with in `obstacles/`. The two canned servers, and the servers of
mailsvc that note what is seen from within only (`programs/noting_twistd.py`), are started for it.

All servers listen on 127.0.0.1. A soak may run beside the rest with a `--work` of its own and
`--figures` of the other's. Which system calls come before a 250, and in which order, is not a
matter of speed; `tests/system/test_system_calls.py` checks it on a running server.

mailsvc runs as `twistd -n mailsvc --config FILE` with its defaults, its log in a file, and compiled
if that is how it is installed; the first table says which. Postfix has its defaults but for limits
that would slow down a single client, and writes its own log.
"""

_PROFILES = """\
## Where the time goes

Sampled by py-spy, all threads, while 20 sessions send to mailsvc not compiled, because py-spy does
not see compiled functions: [accepting](images/accepting.svg),
[filing in a maildir](images/filing.svg), [posting](images/posting.svg).

What is left in them is Python on the reactor's thread, which holds the interpreter's lock nearly
all of the time: the commands of a message, each a turn of the reactor; the lines of the log; for
each delivery its claim, its attempt and, at the end of the turn, its share of a record for many.
Filing adds what the file system takes for a file (make, write, rename), a third of it all, and a
share of a sync. Posting adds a hop into a thread that is shared as well, in which a mail is parsed
and its payload made, and the request: a tenth of it is treq, a quarter the kernel's send.
"""


def write(document: dict[str, Any], path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(render(document), encoding="utf-8")


def render(document: dict[str, Any]) -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "\n".join(_machine(document)), "\n".join(_targets(document))]
    for name, (heading, text) in _HEADINGS.items():
        section = document["sections"].get(name)
        if section:
            parts.append("\n".join([f"## {heading}", "", text, "", *_section(name, section)]))
    for name, caption in (
        ("rate-by-sessions", "The rate against the number of sessions, pipelined"),
        ("latency-by-load", "p99 against the rate that comes in, 50 sessions, pipelined"),
    ):
        if (PAGE.parent / "images" / f"{name}.svg").exists():
            parts.append(f"## {caption}\n\n![{caption}](images/{name}.svg)\n")
    if (PAGE.parent / "images" / "accepting.svg").exists():
        parts.append(_PROFILES)
    parts.append(in_the_way(document))
    parts.append(_METHOD)
    return "\n".join(parts)


def summary(document: dict[str, Any]) -> str:
    """Return the short table, for the README."""
    lines = [
        "| 10 KiB, 20 sessions | durable before 250 | messages/s | p99, ms | CPU µs/message |",
        "|---|---|---|---|---|",
    ]
    for row in document["sections"].get("accept", {}).get("rows", []):
        if row["what"] == ROUND_TRIPS:
            lines.append(
                f"| {row['title']} | {_yes(row['durable'])} | {number(row['rate'])} |"
                f" {number(row['p99'])} | {number(row['cpu'])} |"
            )
    return "\n".join(lines)


def _machine(document: dict[str, Any]) -> Iterator[str]:
    machine = document["machine"]
    yield "| | |"
    yield "|---|---|"
    for name, value in machine.items():
        if name == "versions":
            value = ", ".join(f"{each} {number}" for each, number in value.items())
        yield f"| {name} | {value} |"
    dates = sorted(each["date"] for each in document["sections"].values())
    commits = sorted({each["commit"] for each in document["sections"].values()})
    if dates:
        yield f"| measured | {dates[0]} to {dates[-1]} UTC, at commit {', '.join(commits)} |"
    yield ""


def _targets(document: dict[str, Any]) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "| What | Target | Measured | |"
    yield "|---|---|---|---|"
    for each in verdicts(document):
        word = {True: "met", False: "**not met**", None: "not measured"}[each.met]
        yield f"| {each.what} | {each.target} | {each.measured or '-'} | {word} |"
    yield ""


def _section(name: str, section: dict[str, Any]) -> Iterator[str]:
    bulk = name in ("large", "tls")
    rate = "MB/s" if bulk else "messages/s"
    cpu = "CPU ms/message" if bulk else "CPU µs/message"
    more = " | above rest, MiB" if bulk else ""
    yield (
        f"| Server | Load | Durable | {rate} | least–most | p50, ms | p99, ms | {cpu} |"
        f" Peak, MiB{more} | Checked |"
    )
    yield "|---" * (11 if bulk else 10) + "|"
    for row in section["rows"]:
        scale = SIZE / 1e6 if bulk else 1.0
        speed, (least, most) = row["rate"] * scale, row["spread"]
        apart = f"{number(least * scale)}–{number(most * scale)}"
        cost = row["cpu"] / 1000 if bulk else row["cpu"]
        above = f" {number(row['above'])} |" if bulk else ""
        yield (
            f"| {row['title']} | {row['what']} | {_yes(row['durable'])} | {number(speed)} |"
            f" {apart} | {number(row['p50'])} | {number(row['p99'])} | {number(cost)} |"
            f" {number(row['peak'])} |{above} {row['checked']} |"
        )
    yield ""
    for key, value in section["values"].items():
        yield f"- {key}: {number(value)}"
    for remark in section.get("remarks", ()):
        yield f"- {remark}"
    for note in section["notes"]:
        yield f"- Left out: {note}"
    rounds = max((row["rounds"] for row in section["rows"]), default=0)
    turns = f"{rounds} round" + "s" * (rounds != 1)
    yield f"- {turns}, {section['date']} UTC; load average at the end {section['load']:.1f}"
    yield ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"
