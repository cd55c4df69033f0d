"""``twistd`` for a run that measures coverage: what was measured is saved before the end.

On SIGTERM twistd stops in good order, and then lets the signal kill it, so that whoever waits sees
what ended it; coverage, which saves when Python ends, would see nothing.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import coverage
from coverage.exceptions import CoverageException
from twisted.application import app
from twisted.scripts.twistd import run

_end = app._exitWithSignal


def _save_and_end(number: int) -> None:
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.stop()
        # A service that gave its privileges away may not write where the figures go.
        with suppress(OSError, CoverageException):
            measuring.save()
    _end(number)


if __name__ == "__main__":
    app._exitWithSignal = _save_and_end
    sys.argv[0] = "twistd"
    run()
