"""Transfer encodings (RFC 2045 section 6) undone a chunk at a time, in constant memory.

What a decoder returns over all chunks is what the parser returns for the whole part.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Protocol

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHERS = bytes(set(range(256)) - set(_ALPHABET))
#: Blanks at the end of a line are no content: they were added on the way (RFC 2045 section 6.7,
#: rule 3).  No more than these are taken away, so that a decoder need not hold more.
_PADDING = 1000
_PADDED = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")
_SLICE = 65_536
#: The same seen from the line end, which a search finds much faster than blanks.
_LINE_END = re.compile(rb"\n(?:(?<=[ \t]\n)|(?<=[ \t]\r\n))")
#: An equals sign that begins a soft line break: those before it come in pairs.
_BREAK = re.compile(rb"(?<!=)(?:==)*=\r")


def quoted_printable(octets: bytes) -> bytes:
    """Return what a whole part in quoted-printable holds (RFC 2045 section 6.7)."""
    return binascii.a2b_qp(_at_end(_in_lines(octets)))


def _in_lines(octets: bytes) -> bytes:
    """Return ``octets`` without the padding before line ends."""
    if _LINE_END.search(octets) is None:
        return octets
    pieces = []
    start = 0
    while start < len(octets):
        # A substitution takes a hundred octets of memory for each place: no more of them at once.
        end = octets.find(b"\n", start + _SLICE) + 1 or len(octets)
        pieces.append(_PADDED.sub(lambda found: found[0][:-_PADDING], octets[start:end]))
        start = end
    return b"".join(pieces)


def _at_end(octets: bytes) -> bytes:
    """Return ``octets`` without the padding of a last line that has no end."""
    return octets[: max(len(octets.rstrip(b" \t")), len(octets) - _PADDING)]


class Decoder(Protocol):
    """Undoes one encoding."""

    def feed(self, octets: bytes) -> bytes:
        """Return what can be decoded by now."""

    def end(self) -> bytes:
        """Return the rest; there is no more input."""


class Plain:
    """No encoding."""

    def feed(self, octets: bytes) -> bytes:
        """Return the octets."""
        return octets

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class Base64:
    """Base64 up to its padding; what is not of the alphabet does not count."""

    def __init__(self) -> None:
        self._held = b""
        self._ended = False

    def feed(self, octets: bytes) -> bytes:
        """Decode whole groups of four."""
        if self._ended:
            return b""
        octets, padding, _ = octets.partition(b"=")
        self._ended = bool(padding)
        octets = self._held + octets.translate(None, _OTHERS)
        whole = len(octets) - len(octets) % 4
        self._held = octets[whole:]
        return binascii.a2b_base64(octets[:whole])

    def end(self) -> bytes:
        """Decode the group that is not whole; one digit alone is no octet."""
        held, self._held = self._held, b""
        return binascii.a2b_base64(held + b"=" * (-len(held) % 4)) if len(held) > 1 else b""


class QuotedPrintable:
    """Quoted-printable, whatever the length of its lines."""

    def __init__(self) -> None:
        self._blanks = b""
        self._held = b""
        self._skipping = False

    def feed(self, octets: bytes) -> bytes:
        """Decode up to the last blank or escape whose meaning depends on what follows."""
        octets = self._blanks + octets
        end = len(octets.removesuffix(b"\r").rstrip(b" \t"))
        end = max(end, len(octets) - _PADDING - 1)
        self._blanks = octets[end:]
        return self._unescaped(_in_lines(octets[:end]))

    def _unescaped(self, octets: bytes) -> bytes:
        if self._skipping:
            _, newline, octets = octets.partition(b"\n")
            self._skipping = not newline
        octets = self._held + octets
        whole = octets.rfind(b"\n") + 1
        begun = _BREAK.search(octets, whole)
        if begun:
            # What stands between the carriage return and the line's end does not count.
            self._held, self._skipping = b"", True
            return binascii.a2b_qp(octets[: begun.end() - 2])
        at = octets.rfind(b"=", max(whole, len(octets) - 2))
        run = at + 1 - len(octets[: at + 1].rstrip(b"="))
        # An equals sign behind another is the second half of an escape.
        end = at if at >= 0 and run % 2 else len(octets)
        self._held = octets[end:]
        return binascii.a2b_qp(octets[:end])

    def end(self) -> bytes:
        """Decode the escape that is not whole."""
        last = self._unescaped(_at_end(self._blanks))
        held, self._blanks, self._held = self._held, b"", b""
        return last + binascii.a2b_qp(held)


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "base64": Base64,
    "quoted-printable": QuotedPrintable,
}


#: The encodings that change anything.
ENCODINGS = frozenset(_DECODERS)


def decoder(encoding: str) -> Decoder:
    """Return a decoder for a transfer encoding in lower case; one not known is none."""
    return _DECODERS.get(encoding, Plain)()
