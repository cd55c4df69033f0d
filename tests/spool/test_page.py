"""``docs/spool.md`` names what there is."""

from __future__ import annotations

import os
import re
import sqlite3

from mailsvc.spool.extent import HEADER_SIZE
from tests.floors import ROOT
from tests.spool.house import SpoolTestCase

PAGE = (ROOT / "docs" / "spool.md").read_text("utf-8")


def first_column(heading: str) -> set[str]:
    """Return the words in the first column of the tables below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"(?m)^\| `([^`]+)` \|", section))


class PageTests(SpoolTestCase):
    async def test_the_directory_and_the_tables(self) -> None:
        await self.opened()
        names = {
            f"{each.name}/" if each.is_dir() else each.name for each in os.scandir(self.directory)
        }
        names -= {"queue.db-wal", "queue.db-shm"}
        self.assertEqual(first_column("The directory"), names)
        connection = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        self.addCleanup(connection.close)
        found = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        self.assertEqual(first_column("The tables"), {row[0] for row in found})

    async def test_the_query_and_the_header(self) -> None:
        spool = await self.opened()
        await self.store(spool)
        [query] = re.findall(r'"(SELECT name, state.*)"', PAGE)
        connection = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute(query).fetchall(), [("app", 1, 1)])
        sizes = re.findall(r"(?m)^\| (\d+) \|", PAGE)
        self.assertEqual(sum(map(int, sizes)), HEADER_SIZE)
