"""Fail where a module of floors 0 to 3 is covered less than it has to be.

Usage: ``python .ci/coverage_floors.py coverage.json``, with what ``coverage json`` wrote, branches
measured.  The figure is coverage's own: executed lines and branches over all lines and branches.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.floors import PUBLIC_FOR_TESTS, floor_of, sources  # noqa: E402

LEAST = 95.0
FLOORS = range(4)


def shortfalls(report: Path) -> list[str]:
    """Return a line for each module that is below the mark or was not measured at all."""
    document = json.loads(report.read_text("utf-8"))
    if not document["meta"]["branch_coverage"]:
        return ["the report is without branches"]
    measured = {
        (ROOT / name).resolve(): float(entry["summary"]["percent_covered"])
        for name, entry in document["files"].items()
    }
    lines = []
    for module, path in sources(ROOT).items():
        if floor_of(module) not in FLOORS or not module.startswith("mailsvc"):
            continue
        if module.startswith(PUBLIC_FOR_TESTS):
            continue
        percent = measured.get(path.resolve())
        if percent is None:
            lines.append(f"{module}: not measured")
        elif percent < LEAST:
            lines.append(f"{module}: {percent:.1f} %, {LEAST:.0f} % wanted")
    return lines


if __name__ == "__main__":
    problems = shortfalls(Path(sys.argv[1]))
    for problem in problems:
        print(problem)
    print(f"{len(problems)} modules of floors 0 to 3 below {LEAST:.0f} % by branch")
    sys.exit(1 if problems else 0)
