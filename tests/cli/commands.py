"""Runs the command line in this process, with streams of the test's own."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO
from unittest import mock

from mailsvc.cli import main


class Terminal(io.StringIO):
    """A stream that a person sits at."""

    def isatty(self) -> bool:
        return True


class Printed:
    """What one command printed, and its exit code."""

    def __init__(self, words: Sequence[str], source: TextIO, err: TextIO, out: TextIO) -> None:
        self._out, self._err = out, err
        with (
            mock.patch.object(sys, "stdin", source),
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", err),
        ):
            try:
                self.status: object = main(words)
            except SystemExit as ended:
                self.status = ended.code

    @property
    def out(self) -> str:
        assert isinstance(self._out, io.StringIO)
        return self._out.getvalue()

    @property
    def err(self) -> str:
        assert isinstance(self._err, io.StringIO)
        return self._err.getvalue()

    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.out)


def command(
    *words: str,
    stdin: TextIO | None = None,
    stderr: TextIO | None = None,
    stdout: TextIO | None = None,
) -> Printed:
    return Printed(words, stdin or io.StringIO(), stderr or io.StringIO(), stdout or io.StringIO())
