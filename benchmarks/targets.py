"""What mailsvc is to reach, and whether the figures say that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.sections.accepting import ONE_EACH, PIPELINED, ROUND_TRIPS
from benchmarks.sections.idle import ALONE, BESIDE


class _Unmeasured(Exception):
    """A figure that a target needs is not there."""


@dataclass(frozen=True)
class Verdict:
    """One target.

    :ivar measured: in words; empty if it was not measured.
    :ivar met: None if it was not measured.
    """

    what: str
    target: str
    measured: str
    met: bool | None


class _Figures:
    """Finds figures in the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._sections = document["sections"]

    def row(self, section: str, server: str, what: str | None = None) -> dict[str, Any]:
        for row in self._sections.get(section, {}).get("rows", ()):
            if row["server"] == server and what in (None, row["what"]):
                found: dict[str, Any] = row
                return found
        raise _Unmeasured

    def value(self, section: str, name: str) -> float:
        values = self._sections.get(section, {}).get("values", {})
        if name not in values:
            raise _Unmeasured
        return float(values[name])

    def ratio(
        self,
        figure: str,
        section: str,
        ours: str,
        peer: str,
        what: str | None = None,
        ours_what: str | None = None,
    ) -> float:
        """Return ours divided by theirs."""
        mine = self.row(section, ours, ours_what or what)[figure]
        theirs = self.row(section, peer, what)[figure]
        return float(mine) / float(theirs)


#: Gives what was measured, in words, and whether that is enough.
_Judge = Callable[[_Figures], tuple[str, bool]]


def _at_least(times: Callable[[_Figures], float], least: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        value = times(figures)
        return f"{value:.2f} ×", value >= least

    return judge


def _at_most(times: Callable[[_Figures], float], most: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        value = times(figures)
        return f"{value:.2f} ×", value <= most

    return judge


def _compared(
    figure: str, section: str, ours: str, peer: str, what: str | None = None
) -> Callable[[_Figures], float]:
    return lambda figures: figures.ratio(figure, section, ours, peer, what)


def _figure(section: str, server: str, figure: str, unit: str, most: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        value = float(figures.row(section, server)[figure])
        return f"{value:.1f} {unit}", value <= most

    return judge


def _value(section: str, name: str, unit: str, most: float) -> _Judge:
    def judge(figures: _Figures) -> tuple[str, bool]:
        value = figures.value(section, name)
        return f"{value:.2f} {unit}", value <= most

    return judge


def _of_the_disk(figures: _Figures) -> float:
    from benchmarks.sections.bulk import SIZE

    rate = float(figures.row("large", "ours")["rate"]) * SIZE / 1e6
    return rate / figures.value("large", "disk, MB/s")


def _beside_idle(figures: _Figures) -> float:
    return figures.ratio("p99", "idle", "ours", "ours", ALONE, BESIDE)


def _delivery(figures: _Figures) -> float:
    """Return what a delivery costs beyond accepting, against undici and mailparser."""
    whole = float(figures.row("webhook", "ours-webhook")["cpu"])
    accepting = float(figures.row("webhook", "ours")["cpu"])
    return (whole - accepting) / figures.value("webhook", "undici + mailparser, CPU µs per message")


def _grown(figures: _Figures) -> tuple[str, bool]:
    early = figures.value("soak", "resident after a tenth, MiB")
    late = figures.value("soak", "resident at the end, MiB")
    # A shorter soak is shown in its section, and is no answer here.
    if figures.value("soak", "seconds") < 1800:
        raise _Unmeasured
    return f"{early:.1f} MiB, then {late:.1f} MiB", late <= early * 1.05


def _accepting() -> Iterator[tuple[str, str, _Judge]]:
    for mode in (ROUND_TRIPS, PIPELINED):
        what = f"durable accept, 10 KiB, 20 sessions, {mode}"
        yield (
            what,
            "rate ≥ smtp-sink's",
            _at_least(_compared("rate", "accept", "ours", "smtp-sink", mode), 1),
        )
        yield (
            what,
            "rate ≥ 8 × Postfix's",
            _at_least(_compared("rate", "accept", "ours", "postfix", mode), 8),
        )
        yield (
            what,
            "CPU ≤ 1/10 of Postfix's",
            _at_most(_compared("cpu", "accept", "ours", "postfix", mode), 0.1),
        )
        yield (
            what,
            "CPU ≤ 1/6 of aiosmtpd's with fsync",
            _at_most(_compared("cpu", "accept", "ours", "aiosmtpd", mode), 1 / 6),
        )
    yield (
        f"durable accept, {ONE_EACH}",
        "rate ≥ 4 × Postfix's",
        _at_least(_compared("rate", "accept", "ours", "postfix", ONE_EACH), 4),
    )
    for mode in (ROUND_TRIPS, PIPELINED):
        what = f"end of message to 250, 20 sessions, {mode}"
        yield (
            what,
            "p99 ≤ 1.5 × smtp-sink's",
            _at_most(_compared("p99", "accept", "ours", "smtp-sink", mode), 1.5),
        )
        yield (
            what,
            "p99 ≤ 0.1 × Postfix's",
            _at_most(_compared("p99", "accept", "ours", "postfix", mode), 0.1),
        )


def _others() -> Iterator[tuple[str, str, _Judge]]:
    yield "25 MiB messages", "≥ 0.9 × the disk's own rate", _at_least(_of_the_disk, 0.9)
    yield (
        "25 MiB messages",
        "rate ≥ 1.2 × Postfix's",
        _at_least(_compared("rate", "large", "ours", "postfix"), 1.2),
    )
    yield (
        "25 MiB messages",
        "CPU ≤ 0.35 × Postfix's",
        _at_most(_compared("cpu", "large", "ours", "postfix"), 0.35),
    )
    yield (
        "25 MiB messages",
        "≤ 10 MiB more resident than idle",
        _figure("large", "ours", "above", "MiB", 10),
    )
    yield (
        "STARTTLS bulk",
        "rate ≥ 2 × Postfix's",
        _at_least(_compared("rate", "tls", "ours", "postfix"), 2),
    )
    yield "idle connection", "≤ 1.5 KiB", _value("idle", "mailsvc, plain, KiB", "KiB", 1.5)
    yield (
        "10,000 idle connections",
        "do not change the others' p99 (≤ 1.1 ×)",
        _at_most(_beside_idle, 1.1),
    )
    yield (
        "SMTP in, maildir, drained",
        "rate ≥ 5 × Postfix's virtual delivery",
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
            _at_least(_compared("rate", "webhook", "ours-webhook", peer), times),
        )
    yield (
        "a webhook delivery",
        "CPU ≤ that of undici + mailparser",
        _at_most(_delivery, 1),
    )
    for mode in (ROUND_TRIPS, PIPELINED):
        yield (
            f"two processes, {mode}",
            "CPU ≤ 1.15 × one's",
            _at_most(_compared_own("cpu", "processes", "ours-twice", mode), 1.15),
        )
    yield (
        "1,000,000 deliveries waiting",
        "rate ≥ 0.9 × that with none",
        _at_least(_compared_own("rate", "backlog", "ours-backlog", None), 0.9),
    )
    yield "soak, 30 minutes", "memory flat (≤ 1.05 ×)", _grown


def _compared_own(
    figure: str, section: str, variant: str, what: str | None
) -> Callable[[_Figures], float]:
    return lambda figures: figures.ratio(figure, section, variant, "ours", what)


def verdicts(document: dict[str, Any]) -> list[Verdict]:
    """Return every target with what was measured of it."""
    figures = _Figures(document)
    found = []
    for what, target, judge in (*_accepting(), *_others()):
        try:
            measured, met = judge(figures)
        except _Unmeasured:
            found.append(Verdict(what, target, "", None))
        else:
            found.append(Verdict(what, target, measured, met))
    return found
