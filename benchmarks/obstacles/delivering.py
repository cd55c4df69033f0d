"""What is in the way of delivering faster."""

from __future__ import annotations

from benchmarks.lookup import Lookup
from benchmarks.obstacles.accepting import delivery
from benchmarks.parts.delivering import FILE, FILING, PARSING, PAYLOAD, SIGNING
from benchmarks.sections.delivering import HELD, REQUEST
from benchmarks.wording import number, table


def _before(figures: Lookup) -> dict[str, float]:
    """Return what comes with any delivery, in CPU us."""
    held = figures.figure("cpu", "webhook", "ours", HELD)
    return {
        "accepting a message whose delivery is held": held,
        "claim, attempt and outcome of a delivery that does nothing": delivery(figures),
    }


def _used(row: dict[str, float]) -> str:
    """Say how much of a core a server had."""
    return number(row["rate"] * row["cpu"] / 1e6)


def maildir(figures: Lookup) -> str:
    """Tell of the target on Postfix's virtual delivery."""
    ours = figures.row("maildir", "ours-maildir")
    leaves = 1e6 / figures.figure("rate", "maildir", "postfix-maildir") / 5
    file, filing = figures.value("parts", FILE), figures.value("parts", FILING)
    parts = _before(figures) | {
        FILE: file,
        "the rest of a file in a maildir, and its share of the syncs": filing - file,
    }
    return f"""\
Five times Postfix's rate leaves {number(leaves)} µs of one core for a message that is accepted and
filed. The threads of a process share one interpreter lock; mailsvc used {_used(ours)} of a core
here.

{_summed(parts, ours["cpu"])}"""


def webhook(figures: Lookup) -> str:
    """Tell of the targets on those that post."""
    ours = figures.row("webhook", "ours-webhook")
    targets = []
    for peer, name, times in (
        ("postfix-curl", "Postfix piping to curl", 10),
        ("haraka-http", "Haraka", 3),
        ("aiosmtpd-http", "aiosmtpd", 3),
    ):
        rate = figures.figure("rate", "webhook", peer)
        targets.append((f"{times} × {name}", times * rate, 1e6 / rate / times))
    parts = _before(figures) | {
        PARSING: figures.value("parts", PARSING),
        PAYLOAD: figures.value("parts", PAYLOAD),
        "the request, by our client": figures.value("webhook", REQUEST),
    }
    return f"""\
The targets leave this much time of one core for a message that is accepted durably, parsed, posted
and recorded; the receiver and the generator want theirs of the other:

{table(("Target", "messages/s", "leaves, µs/message"), targets)}

What each part takes. The threads of a process share one interpreter lock; mailsvc used
{_used(ours)} of a core here. Haraka and aiosmtpd post the mail as it came and store nothing.

{_summed(parts, ours["cpu"])}

A signature, which these requests did not have, would add {number(figures.value("parts", SIGNING))}
µs."""


def _summed(parts: dict[str, float], measured: float) -> str:
    whole = sum(parts.values())
    rows = [*parts.items(), ("all of these", whole), ("mailsvc, measured", measured)]
    return f"""\
{table(("Part", "CPU µs/message"), rows)}

One core that does nothing but these parts makes, by itself, {number(1e6 / whole)} messages/s."""
