"""What the parts of mailsvc cost, each alone and in one process: CPU microseconds per message.

A floor for the whole: in a service the same code runs with colder caches, and takes turns with a
second thread.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.parts import accepting, delivering, storing, turning


def measure(directory: Path, runs: int = 40) -> dict[str, float]:
    """Return all figures, by name."""
    return (
        accepting.measure(runs)
        | turning.measure(runs)
        | storing.measure(directory, runs)
        | delivering.measure(directory.with_name(f"{directory.name}-files"), runs)
    )
