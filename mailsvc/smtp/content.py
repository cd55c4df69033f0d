r"""Content on its way through: where it ends, and whether it can be taken.

Everything works on whole chunks with a few octets of memory across their borders; no Python runs
for each line.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailsvc.smtp import replies
from mailsvc.smtp.scan import count, find, paired

_CRLF = b"\r\n"
_TERMINATOR = b"\r\n.\r\n"
_RECEIVED = b"\r\nreceived:"
_BLANK = b"\r\n\r\n"
_DOTTED = b"\r\n."


class DotFraming:
    """Finds the end of DATA content: CRLF ``.`` CRLF and nothing else (RFC 5321 section 4.1.1.4).

    The content begins at the start of a line, so ``.`` CRLF alone ends an empty one.

    :ivar dots: lines so far that began with a dot and did not end the content: what dot-stuffing
        added (section 4.5.2).
    """

    __slots__ = ("_held", "_matched", "dots")

    def __init__(self) -> None:
        self.dots = 0
        # How many octets of the terminator the stream ends with so far.
        self._matched = 2
        # Those of them that are not content if the terminator follows, not handed on yet.
        self._held = b""

    def take(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take ``data`` from ``start``.

        :return: the next octets of content, and the index after the terminator, or -1 if the
            content goes on.
        """
        length = len(data)
        matched = self._matched
        at = start
        # Until the terminator that may have begun in an earlier chunk is complete or ruled out:
        # at most four rounds.
        while 0 < matched < 5 and at < length:
            if data[at] == _TERMINATOR[matched]:
                matched += 1
                at += 1
            else:
                self.dots += matched > 2
                matched = 0
        if matched == 5:
            self._matched, self._held = 2, b""
            return data[start : max(start, at - 3)], at
        held = b"" if matched else self._held
        if at == length:
            self._matched = matched
            # What is held is the end of this chunk, or of earlier ones and all of this one.
            stop = max(start, length - max(0, matched - 2))
            self._held = _TERMINATOR[2 : max(2, matched)]
            return held + data[start:stop], -1
        end = self._find(data, at)
        if end >= 0:
            self._matched, self._held = 2, b""
            kept = data[start : max(start, end - 3)]
            return (held + kept) if held else kept, end
        matched = _overlap(data, at)
        self._matched = matched
        self._held = _TERMINATOR[2 : max(2, matched)]
        stop = max(start, length - max(0, matched - 2))
        if not held and start == 0 and stop == length:
            return data, -1
        return held + data[start:stop], -1

    def _find(self, data: bytes, at: int) -> int:
        """Return the index after the first terminator that begins at ``at`` or later, or -1."""
        first = find(data, _DOTTED, at)
        if first < 0:
            return -1
        if data.startswith(_TERMINATOR, first):
            return first + 5
        found = find(data, _TERMINATOR, first + 3)
        # The first octet after the dot decides; a dot at the very end is not decided yet.
        self.dots += count(data, _DOTTED, first, found if found >= 0 else len(data))
        if found >= 0:
            return found + 5
        self.dots -= _overlap(data, at) > 2
        return -1


def _overlap(data: bytes, at: int) -> int:
    """Return how many octets of the terminator ``data[at:]`` ends with, less than all."""
    if data[-1] not in _TERMINATOR:
        return 0
    for octets in (4, 3, 2, 1):
        if len(data) - at >= octets and data.endswith(_TERMINATOR[:octets]):
            return octets
    return 0


class Repair:
    """Turns each bare CR and bare LF of content into CRLF.

    In stuffed content, a line that only begins by the repair was not stuffed by the sender, so its
    dot is stuffed here; a stuffed dot that would be alone on its repaired line is taken away with
    its stuffing.  So the repaired content never holds a terminator, and unstuffing it gives the
    repaired lines exactly.

    A NUL stands for CRLF inside; content that holds one is refused anyway.
    """

    __slots__ = ("_before", "_held", "_stuffed")

    def __init__(self, *, stuffed: bool) -> None:
        self._stuffed = stuffed
        # The line end before the next octet: NUL for CRLF, LF for a bare one, nothing within lines.
        self._before = b"\0"
        self._held = b""

    def take(self, data: bytes) -> bytes:
        """Return the next octets, repaired."""
        data = self._held + data
        self._held = b""
        if data.endswith(b"\r"):
            data = data[:-1]
            self._held = b"\r"
        if not data:
            return b""
        before = self._before
        text = before + data.replace(_CRLF, b"\0")
        last = text[-1:]
        self._before = last if last in b"\0\n" else b""
        if self._stuffed:
            text = text.replace(b"\0.\n", b"\0\n").replace(b"\0.\r", b"\0\r")
            text = text.replace(b"\n.", b"\0..").replace(b"\r.", b"\0..")
        text = text.replace(b"\r", b"\0").replace(b"\n", b"\0").replace(b"\0", _CRLF)
        return text[2:] if before else text

    def end(self) -> bytes:
        """Return what is left at the end of the content."""
        return _CRLF if self._held else b""


@dataclass(slots=True)
class Chunk:
    """One BDAT command and the octets that belong to it.

    :ivar octets: the size that was given; ``left`` of them are still to come.
    :ivar refusal: its reply, if it is only read to be thrown away; empty if not.
    :ivar bad: the refusal counts as a bad command.
    """

    octets: int
    left: int
    last: bool
    refusal: bytes = b""
    bad: bool = False


class Content:
    """The content of one message: framed, repaired where that is wanted, measured and judged.

    Everything is measured to the end even when the content is refused long before, so that the
    reply does not depend on how the octets were cut into chunks; the first of the reasons in
    :meth:`fault` is given.

    :ivar framing: None for BDAT, whose chunks are framed by count.
    :ivar complete: the last octet has come.
    :ivar dropped: the owner was told to forget the content.
    """

    __slots__ = (
        "_after_cr",
        "_announced",
        "_bare",
        "_binary",
        "_edge",
        "_header",
        "_header_limit",
        "_hop_limit",
        "_hops",
        "_in_header",
        "_known_dots",
        "_limits",
        "_nul",
        "_octets",
        "_repair",
        "complete",
        "dropped",
        "framing",
    )

    def __init__(
        self,
        *,
        stuffed: bool,
        binary: bool,
        repair: bool,
        limits: tuple[int, int],
        header_limit: int,
        hop_limit: int,
    ) -> None:
        """Make ready for the first octet.

        :param binary: BODY=BINARYMIME: octets are free (RFC 3030 section 3).
        :param repair: turn bare CR and LF into CRLF instead of refusing them.
        :param limits: octets that the listener takes, and octets that every recipient takes.
        """
        self.framing = DotFraming() if stuffed else None
        self.complete = False
        self.dropped = False
        self._repair = Repair(stuffed=stuffed) if repair and not binary else None
        self._binary = binary
        # There was a CR or an LF without the other; the last octet so far was a CR.
        self._bare = False
        self._after_cr = False
        self._nul = False
        self._limits = limits
        self._header_limit = header_limit
        self._hop_limit = hop_limit
        self._octets = 0
        self._announced = 0
        self._known_dots = 0
        self._header = 0
        self._hops = 0
        self._in_header = True
        # The last octets of the header block so far: one less than a Received field's start has.
        self._edge = _CRLF

    @property
    def size(self) -> int:
        """Octets so far, dots unstuffed (RFC 1870 section 3); in a repaired one, as stored."""
        dots = self.framing.dots if self.framing is not None and self._repair is None else 0
        return self._octets - dots

    def new_dots(self) -> int | None:
        """Return how many stuffed dots were found since the last call; None if they are unknown."""
        if self._repair is not None:
            return None
        if self.framing is None:
            return 0
        known, self._known_dots = self._known_dots, self.framing.dots
        return self._known_dots - known

    def announce(self, octets: int) -> None:
        """Note that a BDAT chunk of ``octets`` follows: it is judged before it arrives."""
        self._announced = self._octets + octets

    def add(self, data: bytes) -> bytes:
        """Measure the next octets of content; return them as they are to be stored."""
        # As a number: `in` takes octets for 25 times as many instructions.
        if not self._binary and 0 in data:
            self._nul = True
        if self._repair is not None:
            data = self._repair.take(data)
        elif data and not self._binary:
            if not paired(data, self._after_cr):
                self._bare = True
            self._after_cr = data[-1] == 0x0D
        self._octets += len(data)
        if self._in_header and data:
            self._read_header(data)
        return data

    def end(self) -> bytes:
        """Note that the content is complete; return what is still to be stored."""
        if self._after_cr:
            self._bare = True
        elif self._repair is not None:
            rest = self._repair.end()
            self._octets += len(rest)
            return rest
        return b""

    def _read_header(self, data: bytes) -> None:
        window = self._edge + data
        blank = window.find(_BLANK)
        if blank >= 0:
            self._in_header = False
            self._header += blank + len(_BLANK) - len(self._edge)
            window = window[: blank + 2]
        else:
            self._header += len(data)
        if self._header > self._header_limit:
            # Nothing of the header matters any more: its size is the fault.
            self._in_header = False
        else:
            self._hops += window.lower().count(_RECEIVED)
        self._edge = window[1 - len(_RECEIVED) :]

    def fault(self) -> bytes | None:
        """Return the reply that refuses the content as far as it is known, or None."""
        if self._nul:
            return replies.NUL_IN_CONTENT
        if self._bare:
            return replies.BARE_NEWLINE_IN_CONTENT
        size = max(self.size, self._announced)
        if size > self._limits[0]:
            return replies.TOO_LARGE
        if size > self._limits[1]:
            return replies.TOO_LARGE_FOR_RECIPIENT
        if self._header > self._header_limit:
            return replies.HEADER_TOO_LARGE
        if self._hops > self._hop_limit:
            return replies.TOO_MANY_HOPS
        return None
