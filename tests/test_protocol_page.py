"""docs/protocol.md is in step with the tests: every requirement has some that name its number."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import ROOT

ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
NAMED = re.compile(r"[Rr]equirements? (\d+(?:(?:, | and | to )\d+)*)")


def named() -> dict[int, set[str]]:
    """Return the files under tests/ that name each requirement."""
    found: dict[int, set[str]] = {}
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.txt")]:
        for numbers in NAMED.findall(path.read_text("utf-8")):
            listed = [int(number) for number in re.findall(r"\d+", numbers)]
            if " to " in numbers:
                listed = list(range(listed[0], listed[-1] + 1))
            for number in listed:
                found.setdefault(number, set()).add(path.name)
    return found


class PageTests(SynchronousTestCase):
    """The page."""

    def setUp(self) -> None:
        page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
        self.rows = ROW.findall(page)

    def test_every_requirement_has_a_row(self) -> None:
        self.assertEqual([int(row[0]) for row in self.rows], list(range(1, 56)))

    def test_the_files_that_it_names_are_there(self) -> None:
        for number, _, how, tests in self.rows:
            for name in re.findall(r"`([\w./]+\.(?:py|txt|service))`", f"{how} {tests}"):
                places = (ROOT, ROOT / "tests" / "dialogues", ROOT / "mailsvc" / "smtp")
                self.assertTrue(any((place / name).exists() for place in places), (number, name))

    def test_what_is_built_has_tests_that_name_it(self) -> None:
        found = named()
        for number, _, how, tests in self.rows:
            if how == "not built yet":
                continue
            files = re.findall(r"`(?:[\w]+/)*([\w.]+\.(?:py|txt))`", tests)
            self.assertTrue(files, number)
            self.assertTrue(
                found.get(int(number), set()) & set(files), (number, files, found.get(int(number)))
            )
