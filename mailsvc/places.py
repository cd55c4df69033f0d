"""Where a key stands in a TOML file.

``tomllib`` keeps no line numbers, so a small scan of the text finds headers and keys.  It serves
messages only: where it cannot tell (inline tables, say), the line of the nearest header is named.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*="
)
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")


class Places:
    """The lines of one file.

    :param path: the name to show; empty for settings that came from no file.
    :param text: the file's text.
    """

    def __init__(self, path: str = "", text: str = "") -> None:
        self.path = path
        self._lines = _scan(text)

    def line(self, section: str, key: str = "") -> int:
        """Return the line of a key, or of its section's header, or 1.

        :param section: ``limits``, ``destination.app``, ``listener.0`` …; empty for the top.
        """
        name = f"{section}.{key}" if section and key else section or key
        while name:
            if name in self._lines:
                return self._lines[name]
            name = name.rpartition(".")[0]
        return 1

    def locate(self, section: str, key: str = "") -> str:
        """Return ``FILE:LINE``, or ``command line``."""
        return f"{self.path}:{self.line(section, key)}" if self.path else "command line"

    def problem(self, section: str, key: str, text: str) -> str:
        """Return a problem's whole line: ``FILE:LINE: [section] key: text``."""
        name, _, number = section.rpartition(".")
        shown = f"[[{name}]]" if number.isdigit() else f"[{section}]" if section else ""
        subject = " ".join(word for word in (shown, key) if word)
        return ": ".join(word for word in (self.locate(section, key), subject, text) if word)


def _scan(text: str) -> dict[str, int]:
    """Return the line of each header and key by its dotted name, array items by their number."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    section = ""
    closing = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            if line.count(closing) % 2:
                closing = ""
            continue
        if depth == 0:
            header = _HEADER.match(line)
            if header is not None and "=" not in _outside_strings(header[2]):
                section = _dotted(header[2])
                if header[1] == "[[":
                    index = counts.get(section, 0)
                    counts[section] = index + 1
                    lines.setdefault(section, number)
                    section = f"{section}.{index}"
                else:
                    section = _in_array(section, counts)
                lines.setdefault(section, number)
                continue
            key = _KEY.match(line)
            if key is not None:
                name = _dotted(key[1])
                lines.setdefault(f"{section}.{name}" if section else name, number)
        for quote in ('"""', "'''"):
            if line.count(quote) % 2:
                closing = quote
        if not closing:
            bare = _outside_strings(line)
            depth = max(
                0, depth + bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
            )
    return lines


def _dotted(text: str) -> str:
    return ".".join(part.strip("\"'") for part in _PART.findall(text))


def _in_array(section: str, counts: dict[str, int]) -> str:
    """Return the name of a sub-table of an array's latest item (``[route.extra]``)."""
    first, dot, rest = section.partition(".")
    return f"{first}.{counts[first] - 1}.{rest}" if dot and first in counts else section


def _outside_strings(line: str) -> str:
    """Return the line without its strings and its comment."""
    kept = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", "", line)
    return kept.partition("#")[0]
