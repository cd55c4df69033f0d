"""Finds figures in the document that a run keeps."""

from __future__ import annotations

from typing import Any


class Unmeasured(Exception):
    """A figure that is asked for is not there."""


class Lookup:
    """Finds figures by section, server and load.

    :ivar machine: what they were measured on.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.machine: dict[str, Any] = document["machine"]
        self._sections = document["sections"]

    def row(self, section: str, server: str, what: str | None = None) -> dict[str, Any]:
        """Return one row.

        :param what: the load; None: the first of the server.
        :raises Unmeasured: there is none.
        """
        for row in self._sections.get(section, {}).get("rows", ()):
            if row["server"] == server and what in (None, row["what"]):
                found: dict[str, Any] = row
                return found
        raise Unmeasured

    def figure(self, name: str, section: str, server: str, what: str | None = None) -> float:
        """Return one figure of a row.

        :raises Unmeasured: there is none.
        """
        return float(self.row(section, server, what)[name])

    def value(self, section: str, name: str) -> float:
        """Return a figure that stands by itself.

        :raises Unmeasured: there is none.
        """
        values = self.values(section)
        if name not in values:
            raise Unmeasured
        return float(values[name])

    def values(self, section: str) -> dict[str, Any]:
        """Return all figures of a section that stand by themselves."""
        values: dict[str, Any] = self._sections.get(section, {}).get("values", {})
        return values

    def ratio(
        self, figure: str, section: str, ours: str, peer: str, what: str | None = None
    ) -> float:
        """Return ours divided by theirs.

        :raises Unmeasured: one of the two is not there.
        """
        return self.figure(figure, section, ours, what) / self.figure(figure, section, peer, what)
