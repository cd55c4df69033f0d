"""How the page writes numbers and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence


def number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """Return a table; numbers in its cells are worded."""
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in rows:
        cells = [each if isinstance(each, str) else number(each) for each in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """Break the lines of the paragraphs anew; tables, lists and headings stay as they are."""
    paragraphs = [
        each
        if each.startswith(("|", "-", "#"))
        else textwrap.fill(each, 100, break_long_words=False, break_on_hyphens=False)
        for each in text.rstrip().split("\n\n")
    ]
    return "\n\n".join(paragraphs) + "\n"
