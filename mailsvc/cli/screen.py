"""What a command prints: tables and bars for people, JSON for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from getpass import getpass
from typing import TextIO

import msgspec

from mailsvc.errors import MailsvcError
from mailsvc.wording import printable

#: Exit codes.
OK, PROBLEM, USAGE = 0, 1, 2

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class CommandError(MailsvcError):
    """A command cannot do what it was asked; the text says why.

    :ivar status: the exit code.
    """

    def __init__(self, text: str, status: int = PROBLEM) -> None:
        super().__init__(text)
        self.status = status


def ago(seconds: float) -> str:
    """Return a length of time in its greatest unit: ``5m``."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return "0s"


def octets(number: int) -> str:
    """Return a size for people: ``3.2 MiB``."""
    for unit, name in _SIZES:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def plural(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else many}"


class Screen:
    """Where a command's words go.

    :param as_json: print one JSON value on standard output, and nothing for people there.
    """

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        source: TextIO,
        *,
        as_json: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.as_json = as_json
        self.now = now
        self._out = out
        self._err = err
        self._source = source

    def line(self, text: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            print(text, file=self._out)

    def value(self, value: object) -> None:
        """Print a value for programs."""
        if self.as_json:
            encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
            print(encoded.decode("utf-8"), file=self._out)

    def complain(self, text: str) -> None:
        """Print a line on standard error."""
        print(f"mailsvc: {text}", file=self._err)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows with aligned columns; numbers to the right.

        On a terminal, what does not fit on a row's line goes on below it, indented.
        """
        if self.as_json:
            return
        cells = [[printable(cell) for cell in row] for row in rows]
        right = [
            bool(cells) and all(row[column].isdigit() for row in cells)
            for column in range(len(head))
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        limit = shutil.get_terminal_size().columns if self._out.isatty() else 0
        for row in [head, *cells]:
            padded = [
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(row, widths, right, strict=True)
            ]
            for line in _folded(padded, limit):
                print(line, file=self._out)

    def since(self, moment: float) -> str:
        """Return how long ago a moment was."""
        return ago(max(0.0, self.now() - moment))

    def until(self, moment: float) -> str:
        """Return in how long a moment will be."""
        wait = moment - self.now()
        return f"in {ago(wait)}" if wait >= 1 else "now"

    @property
    def can_ask(self) -> bool:
        """Say whether a person is there to answer."""
        return self._source.isatty()

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question; no is the default."""
        print(f"{question} [y/N] ", end="", file=self._err, flush=True)
        return self._source.readline().strip().lower() in ("y", "yes")

    def password(self, name: str) -> str:
        """Ask twice for a password, or read it as two lines where nobody can be asked.

        :raises CommandError: the two differ, or there are not two.
        """
        if self.can_ask:
            first = getpass(f"Password for {printable(name)}: ", self._err)
            second = getpass("The same again: ", self._err)
        else:
            lines = [self._source.readline(), self._source.readline()]
            if not lines[1]:
                raise CommandError("standard input must hold the password on two lines")
            first, second = (line.removesuffix("\n").removesuffix("\r") for line in lines)
        if first != second:
            raise CommandError("the two passwords differ")
        return first

    def secret(self, question: str) -> str:
        """Ask once for a password, or read it as a line where nobody can be asked."""
        if self.can_ask:
            return getpass(question, self._err)
        return self._source.readline().rstrip("\r\n")

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show progress on a terminal; call what is given with the number that is done."""
        if not self._err.isatty() or total < 1:
            yield lambda done: None
            return
        width = max(10, min(40, shutil.get_terminal_size().columns - len(label) - 30))
        shown = -1

        def show(done: int) -> None:
            nonlocal shown
            share = min(1.0, done / total)
            step = int(share * width * 8)
            if step == shown and done < total:
                return
            shown = step
            full = int(share * width)
            bar = "#" * full + "-" * (width - full)
            print(f"\r{label} [{bar}] {done}/{total}", end="", file=self._err, flush=True)

        show(0)
        try:
            yield show
        finally:
            print(file=self._err)


def _folded(cells: Sequence[str], limit: int) -> Iterator[str]:
    """Yield a row's line and, if it is longer than ``limit`` (0: none is), those below it."""
    text = "  ".join(cells).rstrip()
    if not limit or len(text) <= limit:
        yield text
        return
    fitting = len(cells)
    while fitting > 1 and len("  ".join(cells[:fitting]).rstrip()) > limit:
        fitting -= 1
    first = "  ".join(cells[:fitting]).rstrip()
    yield first[:limit]
    rest = "  ".join(cell.strip() for cell in cells[fitting:])
    indent = " " * 4
    if len(first) > limit:
        rest = f"{first[limit:]}  {rest}"
    yield from textwrap.wrap(rest, max(limit, 20), initial_indent=indent, subsequent_indent=indent)


def standard_screen(*, as_json: bool) -> Screen:
    """Return the screen of this process."""
    return Screen(sys.stdout, sys.stderr, sys.stdin, as_json=as_json)
