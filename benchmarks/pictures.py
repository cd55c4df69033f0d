"""The plots of the page, from the figures; needs matplotlib (the extra ``bench``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.workplace import HERE

IMAGES = HERE.parent / "docs" / "images"

#: One colour and one marker for each server, the same in all plots.
_LOOKS = {
    "ours": ("C0", "o"),
    "smtp-sink": ("C7", "x"),
    "postfix": ("C3", "s"),
    "aiosmtpd": ("C2", "^"),
    "twisted": ("C4", "v"),
    "nodemailer": ("C1", "d"),
}


def draw(document: dict[str, Any], images: Path = IMAGES) -> list[Path]:
    """Draw what was measured, and return the files."""
    drawn = []
    for section, name, figure, x_label, y_label in (
        ("sessions", "rate-by-sessions", "rate", "sessions", "messages/s, durable or not"),
        ("load", "latency-by-load", "p99", "messages/s coming in", "p99 until 250, ms"),
    ):
        rows = document["sections"].get(section, {}).get("rows", [])
        if rows:
            path = images / f"{name}.svg"
            _draw(rows, figure, x_label, y_label, path)
            drawn.append(path)
    return drawn


def _draw(rows: list[dict[str, Any]], figure: str, x_label: str, y_label: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "mailsvc"
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for server, (colour, marker) in _LOOKS.items():
        points = [(float(row["what"]), row[figure]) for row in rows if row["server"] == server]
        if points:
            title = next(row["title"] for row in rows if row["server"] == server)
            across, up = zip(*sorted(points), strict=True)
            axes.plot(across, up, color=colour, marker=marker, label=title)
    axes.set(xlabel=x_label, ylabel=y_label, xscale="log", yscale="log")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)
