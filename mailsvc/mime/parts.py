"""The tree of parts of a mail (RFC 2046), by offsets into its octets.

Each level of multiparts is scanned once for its own boundary, within the bounds of the level above,
so the time is at most the mail's size times the depth that :class:`Limits` allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import IncrementalNewlineDecoder

from mailsvc.mime.charsets import decoded
from mailsvc.mime.decoding import quoted_printable
from mailsvc.mime.fields import (
    Fields,
    base64_octets,
    body_start,
    parameters,
    raw_text,
    split_fields,
)
from mailsvc.mime.limits import Limits, Notes

_COMMENT = re.compile(r"\([^()]*\)")
_WORD = re.compile(r"[^\s;()]+")
#: RFC 2046 section 5.1.1 allows 70.
_BOUNDARY = 256


def header_ends(octets: bytes) -> int:
    """Return the octets of a mail's header block."""
    return body_start(octets, 0, len(octets))[0]


class Part:
    """A part that is not taken apart further.

    No dataclass: compiled, the making of one is still Python, four times as much as this.

    :ivar named: the first field of each name, in lower case.
    :ivar head: where its header begins.
    :ivar start: where its body begins; ``end`` where it ends.
    :ivar within: the subtype of the multipart around it, such as ``alternative``; empty for the
        mail itself.
    :ivar opaque: a multipart that was not taken apart, because it is too deep.
    """

    def __init__(
        self, named: dict[str, str], bounds: tuple[int, int, int], content_type: str, within: str
    ) -> None:
        self.named = named
        self.head, self.start, self.end = bounds
        self.content_type = content_type
        self.parameters: dict[str, str] = {}
        self.disposition = ""
        self.disposition_parameters: dict[str, str] = {}
        self.encoding = ""
        self.within = within
        self.opaque = False

    def field(self, name: str, notes: Notes) -> str:
        """Return the undecoded text of the first field of that (lower-case) name, or nothing."""
        value = self.named.get(name, "")
        return raw_text(value, notes)


class Tree:
    """The parts of one mail.

    :ivar fields: the mail's own header fields.
    :ivar leaves: its parts, in order.
    """

    def __init__(self, octets: bytes, limits: Limits, notes: Notes) -> None:
        self._octets = octets
        self._limits = limits
        self._notes = notes
        self.leaves: list[Part] = []
        self.fields = self._take(0, len(octets), 0, "", "text/plain")

    def content(self, part: Part, where: str) -> bytes:
        """Return the octets of a part without its transfer encoding (RFC 2045 section 6)."""
        octets = self._octets[part.start : part.end]
        if part.encoding == "base64":
            return base64_octets(octets, where, self._notes)
        if part.encoding == "quoted-printable":
            return quoted_printable(octets)
        if part.encoding not in ("", "7bit", "8bit", "binary"):
            self._notes.add(f"{where}: unknown transfer encoding, given as it came")
        return octets

    def text(self, part: Part, where: str) -> str:
        """Return the text of a part, its lines ended by LF."""
        charset = part.parameters.get("charset", "")
        text = decoded(self.content(part, where), charset, where, self._notes)
        if "\r" in text:
            # In a third of the time of two replacements.
            text = IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)
        if "\0" in text:
            self._notes.add(f"{where}: NUL characters are replaced")
            text = text.replace("\0", "\ufffd")
        return text.removeprefix("\ufeff")

    def _take(self, start: int, end: int, depth: int, within: str, default: str) -> Fields:
        """Add the leaves of the entity from ``start`` to ``end``; return its fields."""
        notes = self._notes
        header_end, body = body_start(self._octets, start, end)
        fields, stray = split_fields(self._octets[start:header_end], self._limits, notes)
        if stray is not None:
            body = start + stray
        # The first of a name is the last that stays.
        named = {name.lower(): value for name, value in reversed(fields)}
        part = Part(named, (start, body, end), default, within)
        if declared := part.field("content-type", notes):
            value, part.parameters = parameters(declared, notes)
            # Not type/subtype: as if nothing had been declared (RFC 2045 section 5.2).
            part.content_type = value if value.count("/") == 1 else "text/plain"
        if declared := part.field("content-disposition", notes):
            part.disposition, part.disposition_parameters = parameters(declared, notes)
        if declared := part.field("content-transfer-encoding", notes):
            # Programs add a semicolon or a comment.
            found = _WORD.search(_COMMENT.sub(" ", declared))
            part.encoding = found[0].lower() if found else ""
        kind, _, subtype = part.content_type.partition("/")
        if kind != "multipart":
            self.leaves.append(part)
        elif depth == self._limits.depth:
            notes.add(f"multiparts nested more than {depth} deep are given as one attachment")
            part.opaque = True
            self.leaves.append(part)
        else:
            inner = "message/rfc822" if subtype == "digest" else "text/plain"
            parts = 0
            for first, last in self._split(part):
                if len(self.leaves) >= self._limits.parts:
                    notes.add(f"more than {self._limits.parts} parts, the rest is left out")
                    return fields
                self._take(first, last, depth + 1, subtype, inner)
                parts += 1
            if not parts:
                # No boundary, or one that never comes: what is there is text to read.
                notes.add("a multipart without parts is taken as text")
                part.content_type, part.encoding = "text/plain", ""
                self.leaves.append(part)
        return fields

    def _split(self, part: Part) -> Iterator[tuple[int, int]]:
        """Yield start and end of each part of a multipart (RFC 2046 section 5.1)."""
        octets = self._octets
        boundary = part.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        if not 0 < len(boundary) <= _BOUNDARY:
            return
        line = b"--" + boundary
        needle = b"\n" + line
        opened: int | None = None
        search = part.start
        at = part.start if octets.startswith(line, part.start, part.end) else -1
        while True:
            if at < 0:
                at = octets.find(needle, search, part.end) + 1
                if not at:
                    break
            after = at + len(line)
            line_end = octets.find(b"\n", after, part.end)
            rest = octets[after : line_end if line_end >= 0 else part.end].strip()
            closing = rest.startswith(b"--")
            search = max(after, line_end)
            if closing or not rest:
                if opened is not None:
                    yield opened, max(opened, self._before(at))
                opened = None
                if closing:
                    return
                opened = line_end + 1 if line_end >= 0 else part.end
            at = -1
        if opened is not None:
            self._notes.add("a multipart is not closed")
            yield opened, part.end

    def _before(self, at: int) -> int:
        """Return where the line end before a delimiter begins: it belongs to the delimiter."""
        end = at - 1
        return end - 1 if self._octets.endswith(b"\r", 0, end) else end
