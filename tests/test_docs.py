"""The pages are in step with the files: links lead somewhere, quotes are word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import FLOORS, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```+)[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.*?)#*\s*$", re.MULTILINE)
QUOTE = re.compile(r"^<!-- quoted from (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NAMED = re.compile(r"`((?:mailsvc|tests|etc|docs|twisted|benchmarks)/[\w./*-]+)`")

RUN = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/twistd -n mailsvc"
TEST = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"


def pages() -> Iterator[Path]:
    """Yield every page that people read."""
    yield from sorted(ROOT.glob("*.md"))
    for folder in ("docs", "etc", "tests", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text("utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def broken_links(page: Path) -> list[str]:
    """Return the links of ``page`` to files or headings that do not exist."""
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(f"{page.name}: {link}")
    return broken


class PageTests(SynchronousTestCase):
    """All pages."""

    def test_links_lead_somewhere(self) -> None:
        self.assertEqual([link for page in pages() for link in broken_links(page)], [])

    def test_quotes_are_word_for_word(self) -> None:
        differing = [
            f"{page.relative_to(ROOT)} and {name}"
            for page in pages()
            for name, quoted in QUOTE.findall(page.read_text("utf-8"))
            if not (ROOT / name).is_file() or (ROOT / name).read_text("utf-8") != quoted
        ]
        self.assertEqual(differing, [])

    def test_every_quote_is_checked(self) -> None:
        """A marker that the pattern above does not take would go unseen."""
        for page in pages():
            text = page.read_text("utf-8")
            self.assertEqual(text.count("<!-- quoted from"), len(QUOTE.findall(text)), str(page))

    def test_the_index_has_every_page(self) -> None:
        index = (ROOT / "docs/README.md").read_text("utf-8")
        missing = [
            page.name
            for page in sorted((ROOT / "docs").glob("*.md"))
            if page.name != "README.md" and f"({page.name})" not in index
        ]
        self.assertEqual(missing, [])

    def test_the_files_that_pages_name_exist(self) -> None:
        """Those in code spans, such as a module's; a star stands for any name."""
        missing = [
            f"{page.relative_to(ROOT)}: {name}"
            for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
            for name in NAMED.findall(FENCE.sub("", page.read_text("utf-8")))
            if not list(ROOT.glob(name.rstrip("/")))
        ]
        self.assertEqual(missing, [])

    def test_the_architecture_shows_every_floor(self) -> None:
        text = (ROOT / "docs/architecture.md").read_text("utf-8")
        rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE))
        for floor, modules in FLOORS.items():
            named = set(re.findall(r"`([\w.]+)`", rows[str(floor)]))
            wanted = {name.removeprefix("mailsvc.") for name in modules if name != "mailsvc"}
            self.assertEqual(named, wanted, f"floor {floor}")


class ReadmeTests(SynchronousTestCase):
    """What a newcomer copies."""

    def setUp(self) -> None:
        self.commands = "\n".join(SHELL.findall((ROOT / "README.md").read_text("utf-8")))

    def test_one_command_runs_it(self) -> None:
        self.assertIn(RUN, self.commands.splitlines())

    def test_one_command_tests_it(self) -> None:
        self.assertIn(TEST, self.commands.splitlines())

    def test_ci_installs_and_tests_the_same(self) -> None:
        script = (ROOT / ".ci/run").read_text("utf-8")
        self.assertIn("-e '.[test,", script)
        self.assertRegex(script, r"\bpytest ")

    def test_the_files_it_names_exist(self) -> None:
        for name in re.findall(r"\betc/[\w.]+", self.commands):
            self.assertTrue((ROOT / name).is_file(), name)


class ReadingTests(SynchronousTestCase):
    """The checks above can fail."""

    def page(self, text: str) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder.resolve() / "page.md"
        path.write_text(text, "utf-8")
        return path

    def test_anchors(self) -> None:
        page = self.page("# A `b` and c!\n\n```sh\n# not a heading\n```\n## The [link](x.md) 2.0\n")
        self.assertEqual(anchors(page), {"a-b-and-c", "the-link-20"})

    def test_links(self) -> None:
        page = self.page(
            "# Top\n[a](#top) [b](#none) [c](page.md#top) [d](gone.md) [e](http://x)\n"
        )
        self.assertEqual(broken_links(page), ["page.md: #none", "page.md: gone.md"])

    def test_a_quote(self) -> None:
        found = QUOTE.findall("<!-- quoted from a/b.py -->\n```python\nx = 1\n\ny = 2\n```\n")
        self.assertEqual(found, [("a/b.py", "x = 1\n\ny = 2\n")])
