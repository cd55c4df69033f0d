"""Every conversation under tests/dialogues/, in three segmentations with the same outcome.

Requirements 1, 2 and 25, and those that the first lines of the files name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from .dialogue import DIRECTORY, Dialogue, Step, read
from .owner import Owner

_HYPHEN = re.compile(r"[2-5][0-9]{2}-")
_REPLY = re.compile(r"[2-5][0-9]{2}[ -](?:[2-5]\.[0-9]{1,3}\.[0-9]{1,3} )?[\t\x20-\x7e]+|334 ")


def whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def lines(octets: bytes) -> Iterator[bytes]:
    yield from octets.splitlines(keepends=True)


def single(octets: bytes) -> Iterator[bytes]:
    for index in range(len(octets)):
        yield octets[index : index + 1]


SEGMENTATIONS: tuple[Callable[[bytes], Iterator[bytes]], ...] = (whole, lines, single)


def expand(wanted: list[str], got: list[str]) -> list[str]:
    """Replace the abbreviated lines of ``wanted`` by the lines of ``got`` that fit them."""
    result: list[str] = []
    for line in wanted:
        start = line.removesuffix("...")
        rest = got[len(result) :]
        if start == line:
            result.append(line)
        elif _HYPHEN.fullmatch(start):
            result += itertools.takewhile(re.compile(start).match, rest)
        else:
            result.append(rest[0] if rest and rest[0].startswith(start) else line)
    return result


class DialogueTests(SynchronousTestCase):
    """One test for each file and segmentation, added below."""

    def converse(self, path: Path, cut: Callable[[bytes], Iterator[bytes]]) -> None:
        dialogue = read(path)
        if dialogue.whole and cut is not whole:
            # Requirement 26 is exempt from requirement 2.
            return
        owner = Owner(dialogue.policy, dialogue.script, secure=dialogue.secure)
        owner.greet()
        for step in dialogue.steps:
            owner.feed(cut(step.sent))
            self.compare(dialogue, step, owner)

    def compare(self, dialogue: Dialogue, step: Step, owner: Owner) -> None:
        got = owner.output.decode().split("\r\n")
        self.assertEqual(got.pop(), "", "an unfinished line")
        owner.output = b""
        for line in got:
            self.assertLessEqual(len(line) + 2, 512)
            if line.isascii():
                self.assertRegex(line, _REPLY)
        self.assertEqual(got, expand(step.replies, got), step.sent)
        told = owner.told[:]
        owner.told.clear()
        if any(other.told for other in dialogue.steps):
            self.assertEqual(told, step.told, step.sent)


def _add(path: Path) -> None:
    for cut in SEGMENTATIONS:

        def test(
            self: DialogueTests, path: Path = path, cut: Callable[[bytes], Iterator[bytes]] = cut
        ) -> None:
            self.converse(path, cut)

        test.__doc__ = f"{path.name}, {cut.__name__}"
        setattr(DialogueTests, f"test_{path.stem}_{cut.__name__}", test)


for _path in sorted(DIRECTORY.glob("*.txt")):
    _add(_path)


class DialogueFileTests(SynchronousTestCase):
    """The files themselves."""

    def test_every_file_says_what_it_shows(self) -> None:
        paths = sorted(DIRECTORY.glob("*.txt"))
        self.assertGreater(len(paths), 20)
        for path in paths:
            self.assertTrue(read(path).title, path.name)

    def test_a_bad_line_is_named(self) -> None:
        path = Path(self.mktemp())
        path.write_text("# A title\nC: NOOP\nX: what\n")
        error = self.assertRaises(ValueError, read, path)
        self.assertIn(":3:", str(error))

    def test_an_unknown_setting_is_named(self) -> None:
        path = Path(self.mktemp())
        path.write_text("# A title\ncolour: blue\n")
        error = self.assertRaises(ValueError, read, path)
        self.assertIn(":2:", str(error))

    def test_an_unknown_question_is_named(self) -> None:
        path = Path(self.mktemp())
        path.write_text("# A title\nanswer riddle: 250 2.0.0 no\n")
        error = self.assertRaises(ValueError, read, path)
        self.assertIn("riddle", str(error))
