"""What mailsvc is to reach, and whether the figures say that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from benchmarks.lookup import Lookup, Unmeasured
from benchmarks.sections.accepting import ONE_EACH, PIPELINED, ROUND_TRIPS
from benchmarks.sections.bulk import DISK_RATE, SIZE
from benchmarks.sections.delivering import DISCARDED, POSTED, UNDICI
from benchmarks.sections.idle import OURS, P99

#: What two processes may cost, of what one does.
DIVIDED = 1.15


class Obstacle(Enum):
    """What is in the way of a target: the targets with the same one are told of together."""

    RATE = auto()
    CONNECTION = auto()
    LATENCY = auto()
    BULK = auto()
    STARTTLS = auto()
    MEMORY = auto()
    IDLE = auto()
    MAILDIR = auto()
    WEBHOOK = auto()
    PROCESSES = auto()
    #: Nothing is known that would be.
    NONE = auto()


@dataclass(frozen=True)
class Verdict:
    """One target.

    :ivar measured: in words; empty if it was not measured.
    :ivar met: None if it was not measured.
    """

    what: str
    target: str
    obstacle: Obstacle
    measured: str
    met: bool | None


#: Gives what was measured, in words, and whether that is enough.
_Judge = Callable[[Lookup], tuple[str, bool]]


def _at_least(times: Callable[[Lookup], float], least: float) -> _Judge:
    def judge(figures: Lookup) -> tuple[str, bool]:
        value = times(figures)
        return f"{value:.2f} ×", value >= least

    return judge


def _at_most(times: Callable[[Lookup], float], most: float) -> _Judge:
    def judge(figures: Lookup) -> tuple[str, bool]:
        value = times(figures)
        return f"{value:.2f} ×", value <= most

    return judge


def _compared(
    figure: str, section: str, ours: str, peer: str, what: str | None = None
) -> Callable[[Lookup], float]:
    return lambda figures: figures.ratio(figure, section, ours, peer, what)


def _figure(section: str, server: str, figure: str, unit: str, most: float) -> _Judge:
    def judge(figures: Lookup) -> tuple[str, bool]:
        value = float(figures.row(section, server)[figure])
        return f"{value:.1f} {unit}", value <= most

    return judge


def _value(section: str, name: str, unit: str, most: float) -> _Judge:
    def judge(figures: Lookup) -> tuple[str, bool]:
        value = figures.value(section, name)
        return f"{value:.2f} {unit}", value <= most

    return judge


def _of_the_disk(figures: Lookup) -> float:
    rate = float(figures.row("large", "ours")["rate"]) * SIZE / 1e6
    return rate / figures.value("large", DISK_RATE)


def _beside_idle(figures: Lookup) -> float:
    return figures.value("idle", P99)


def _delivery(figures: Lookup) -> float:
    """Return what a delivery costs beyond accepting, against undici and mailparser."""
    whole = figures.figure("cpu", "webhook", "ours-webhook", POSTED)
    accepting = figures.figure("cpu", "webhook", "ours", DISCARDED)
    return (whole - accepting) / figures.value("webhook", UNDICI)


def _grown(figures: Lookup) -> tuple[str, bool]:
    early = figures.value("soak", "resident after a tenth, MiB")
    late = figures.value("soak", "resident at the end, MiB")
    # A shorter soak is shown in its section, and is no answer here.
    if figures.value("soak", "seconds") < 1800:
        raise Unmeasured
    return f"{early:.1f} MiB, then {late:.1f} MiB", late <= early * 1.05


def _accepting() -> Iterator[tuple[str, str, Obstacle, _Judge]]:
    for mode in (ROUND_TRIPS, PIPELINED):
        what = f"durable accept, 10 KiB, 20 sessions, {mode}"
        yield (
            what,
            "rate ≥ smtp-sink's",
            Obstacle.RATE,
            _at_least(_compared("rate", "accept", "ours", "smtp-sink", mode), 1),
        )
        yield (
            what,
            "rate ≥ 8 × Postfix's",
            Obstacle.RATE,
            _at_least(_compared("rate", "accept", "ours", "postfix", mode), 8),
        )
        yield (
            what,
            "CPU ≤ 1/10 of Postfix's",
            Obstacle.RATE,
            _at_most(_compared("cpu", "accept", "ours", "postfix", mode), 0.1),
        )
        yield (
            what,
            "CPU ≤ 1/6 of aiosmtpd's with fsync",
            Obstacle.RATE,
            _at_most(_compared("cpu", "accept", "ours", "aiosmtpd", mode), 1 / 6),
        )
    yield (
        f"durable accept, {ONE_EACH}",
        "rate ≥ 4 × Postfix's",
        Obstacle.CONNECTION,
        _at_least(_compared("rate", "accept", "ours", "postfix", ONE_EACH), 4),
    )
    for mode in (ROUND_TRIPS, PIPELINED):
        what = f"end of message to 250, 20 sessions, {mode}"
        yield (
            what,
            "p99 ≤ 1.5 × smtp-sink's",
            Obstacle.LATENCY,
            _at_most(_compared("p99", "accept", "ours", "smtp-sink", mode), 1.5),
        )
        yield (
            what,
            "p99 ≤ 0.1 × Postfix's",
            Obstacle.LATENCY,
            _at_most(_compared("p99", "accept", "ours", "postfix", mode), 0.1),
        )


def _others() -> Iterator[tuple[str, str, Obstacle, _Judge]]:
    yield (
        "25 MiB messages",
        "≥ 0.9 × the disk's own rate",
        Obstacle.BULK,
        _at_least(_of_the_disk, 0.9),
    )
    yield (
        "25 MiB messages",
        "rate ≥ 1.2 × Postfix's",
        Obstacle.BULK,
        _at_least(_compared("rate", "large", "ours", "postfix"), 1.2),
    )
    yield (
        "25 MiB messages",
        "CPU ≤ 0.35 × Postfix's",
        Obstacle.BULK,
        _at_most(_compared("cpu", "large", "ours", "postfix"), 0.35),
    )
    yield (
        "25 MiB messages",
        "≤ 10 MiB more resident than idle",
        Obstacle.NONE,
        _figure("large", "ours", "above", "MiB", 10),
    )
    yield (
        "STARTTLS bulk",
        "rate ≥ 2 × Postfix's",
        Obstacle.STARTTLS,
        _at_least(_compared("rate", "tls", "ours", "postfix"), 2),
    )
    yield "idle connection", "≤ 1.5 KiB", Obstacle.MEMORY, _value("idle", OURS, "KiB", 1.5)
    yield (
        "10,000 idle connections",
        "do not change the others' p99 (≤ 1.1 ×)",
        Obstacle.IDLE,
        _at_most(_beside_idle, 1.1),
    )
    yield (
        "SMTP in, maildir, drained",
        "rate ≥ 5 × Postfix's virtual delivery",
        Obstacle.MAILDIR,
        _at_least(_compared("rate", "maildir", "ours-maildir", "postfix-maildir"), 5),
    )
    for peer, name, times in (
        ("postfix-curl", "Postfix piping to curl", 10),
        ("haraka-http", "Haraka with an HTTP plugin", 3),
        ("aiosmtpd-http", "aiosmtpd with aiohttp", 3),
    ):
        yield (
            "SMTP in, webhook answered and recorded",
            f"rate ≥ {times} × {name}",
            Obstacle.WEBHOOK,
            _at_least(_compared("rate", "webhook", "ours-webhook", peer), times),
        )
    yield (
        "a webhook delivery",
        "CPU ≤ that of undici + mailparser",
        Obstacle.WEBHOOK,
        _at_most(_delivery, 1),
    )
    for mode in (ROUND_TRIPS, PIPELINED):
        yield (
            f"two processes, {mode}",
            f"CPU ≤ {DIVIDED} × one's",
            Obstacle.PROCESSES,
            _at_most(_compared_own("cpu", "processes", "ours-twice", mode), DIVIDED),
        )
    yield (
        "1,000,000 deliveries waiting",
        "rate ≥ 0.9 × that with none",
        Obstacle.NONE,
        _at_least(_compared_own("rate", "backlog", "ours-backlog", None), 0.9),
    )
    yield "soak, 30 minutes", "memory flat (≤ 1.05 ×)", Obstacle.NONE, _grown


def _compared_own(
    figure: str, section: str, variant: str, what: str | None
) -> Callable[[Lookup], float]:
    return lambda figures: figures.ratio(figure, section, variant, "ours", what)


def verdicts(document: dict[str, Any]) -> list[Verdict]:
    """Return every target with what was measured of it."""
    figures = Lookup(document)
    found = []
    for what, target, obstacle, judge in (*_accepting(), *_others()):
        try:
            measured, met = judge(figures)
        except Unmeasured:
            found.append(Verdict(what, target, obstacle, "", None))
        else:
            found.append(Verdict(what, target, obstacle, measured, met))
    return found
