"""From the first MAIL until the last message is in its maildir, or answered for by the receiver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

from benchmarks.check import compare, compare_payloads
from benchmarks.load import Load, Outcome, message
from benchmarks.receiver import Receiver
from benchmarks.rounds import Row, interleaved, one_round
from benchmarks.sections.alone import the_disk
from benchmarks.sections.run import Run, Section
from benchmarks.servers.ours import OursDiscarding, OursInMaildir, OursPosting
from benchmarks.servers.peers import AiosmtpdPosting, HarakaPosting
from benchmarks.servers.postfix import PostfixInMaildir, PostfixToCurl
from benchmarks.servers.server import Server
from benchmarks.workplace import HERE, Missing, program

#: A message is accepted, and its delivery held: nobody claims it.
HELD = "accepted, held"
#: It is claimed, and its outcome recorded; nothing is done with it.
DISCARDED = "accepted, discarded"
POSTED = "posted"
UNDICI = "undici + mailparser, CPU µs per message"
REQUEST = "a request of ours alone, CPU µs"


def _counted(server: Server) -> int:
    return server.counted() or 0


def maildir(run: Run) -> Section:
    """20 sessions, drained."""
    section = Section()
    count = int(1000 * run.seconds)
    with run.started(section, (OursInMaildir, PostfixInMaildir)) as servers:
        turns = [partial(the_disk, run, section)]
        for each in servers:
            # About as long for either.
            messages = count if each.key == "ours-maildir" else max(200, count // 4)
            load = Load(messages=messages)
            drained = partial(_counted, each)
            turns.append(partial(one_round, run.workplace, each, load, "drained", drained))
        section.rows += interleaved(run.rounds, turns)
    return section


def webhook(run: Run) -> Section:
    """20 sessions, multipart messages, posted and recorded; beside what parts of it cost alone."""
    section = Section()
    count = int(400 * run.seconds)
    with Receiver(run.workplace) as receiver:

        def name_the_receiver(server: Server) -> None:
            if hasattr(server, "url"):
                server.url = receiver.url

        def turn(server: Server, messages: int) -> Row:
            load = Load(messages=messages, multipart=True)
            if server.key == "ours":
                return one_round(run.workplace, server, load, DISCARDED)
            receiver.forget()
            check = _check(receiver, server.key == "ours-webhook")
            return one_round(run.workplace, server, load, POSTED, receiver.count, check)

        kinds = (OursPosting, OursDiscarding, PostfixToCurl, AiosmtpdPosting, HarakaPosting)
        alone: dict[str, list[float]] = {}
        with run.started(section, kinds, name_the_receiver) as servers:
            turns = [
                partial(turn, each, max(100, count // 8) if each.key == "postfix-curl" else count)
                for each in servers
            ]
            turns += [
                partial(_held, run, each, count)
                for each in servers
                if isinstance(each, OursDiscarding)
            ]
            turns.append(partial(the_disk, run, section))
            for name, measure in ((UNDICI, _undici), (REQUEST, _request)):
                try:
                    for _ in range(run.rounds):
                        alone.setdefault(name, []).append(measure(run, receiver, count))
                except Missing as missing:
                    section.notes.append(f"{name}: {missing}")
            section.rows += interleaved(run.rounds, turns)
        section.values |= {name: median(found) for name, found in alone.items() if found}
    return section


def _held(run: Run, server: OursDiscarding, count: int) -> Row:
    """Let it accept for a destination that is paused."""
    server.operate("pause", "held")
    load = Load(messages=count, multipart=True, to="bench@held.example.com")
    return one_round(run.workplace, server, load, HELD, check=lambda *_: "no: not delivered")


def _check(receiver: Receiver, payloads: bool) -> Callable[[Server, Load, Outcome], str]:
    comparison = compare_payloads if payloads else compare

    def check(server: Server, load: Load, outcome: Outcome) -> str:
        return comparison(server.workplace, load, outcome, receiver.bodies())

    return check


def _request(run: Run, receiver: Receiver, count: int) -> float:
    """Return the CPU µs that our HTTP client needs for a request of 10 KiB."""
    script = HERE / "programs" / "requests_alone.py"
    done = subprocess.run(
        [sys.executable, script, receiver.url, str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout)["cpu"])


def _undici(run: Run, receiver: Receiver, count: int) -> float:
    """Return the CPU µs that mailparser and undici need for one of our messages."""
    script = HERE / "programs" / "undici_mailparser.js"
    mail = run.workplace.fresh("undici") / "mail"
    mail.write_bytes(message(run.workplace, Load(multipart=True), "undici", 0))
    done = subprocess.run(
        [program("node"), script, mail, receiver.url, str(count)],
        env={"NODE_PATH": str(run.workplace.node_modules("undici"))},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout)["cpu"])
