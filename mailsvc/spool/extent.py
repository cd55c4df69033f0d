"""How content lies in a file, and how its dots are taken out again: no file is touched here.

An extent in a segment is a header and the content's octets as received.  The header repeats what
the row says: message id, length and CRC-32 of the content; a CRC of its own ends it.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from mailsvc.spool.records import Stored

try:
    # The same CRC for a thirteenth of the time: a tenth of all that 25 MiB cost.
    from isal.isal_zlib import crc32 as crc32
except ImportError:
    # There is none for this kind of machine.
    from zlib import crc32 as crc32

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEADER = struct.Struct(">4s32sII")
_CHECK = 4
_MAGIC = b"msvc"
HEADER_SIZE = _HEADER.size + _CHECK

#: What DATA inserts before a dot that begins a line (RFC 5321 section 4.5.2).
_STUFFED = b"\r\n."
_LINE_START = b"\r\n"


class Damaged(Exception):
    """What lies at an extent's place is not what its row says."""


def header(message_id: str, length: int, crc: int) -> bytes:
    """Return an extent's header.

    :param message_id: at most 32 ASCII characters.
    """
    start: bytes = _HEADER.pack(_MAGIC, message_id.encode("ascii"), length, crc)
    check: int = crc32(start)
    return start + check.to_bytes(_CHECK, "big")


def checked(extent: bytes, stored: Stored) -> bytes:
    """Return the content of an extent, header and content given.

    :raises Damaged: unless header and content are exactly what the row says.
    """
    if len(extent) != HEADER_SIZE + stored.length:
        raise Damaged("the segment ends before the content does")
    if extent[:HEADER_SIZE] != header(stored.message_id, stored.length, stored.crc):
        raise Damaged("another extent, or none, lies at the content's place")
    content = extent[HEADER_SIZE:]
    if crc32(content) != stored.crc:
        raise Damaged("the content's checksum is wrong")
    return content


class DotCounter:
    """Counts the stuffed dots of content that comes in chunks, wherever they are cut."""

    __slots__ = ("_tail", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tail = _LINE_START

    def add(self, data: bytes | memoryview, dots: int | None = None) -> None:
        """Count the stuffed dots that end in ``data``.

        :param dots: how many these are; None: unknown.
        """
        if dots is not None:
            self.count += dots
        else:
            octets = bytes(data)
            self.count += octets.count(_STUFFED) + (self._tail + octets[:2]).count(_STUFFED)
        # To take a slice of a known type costs half as much.
        last = data[-2:] if isinstance(data, bytes) else bytes(data[-2:])
        self._tail = last if len(last) > 1 else (self._tail + last)[-2:]


def unstuffed(content: bytes) -> bytes:
    """Return content without the dots that DATA inserted."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(_STUFFED, _LINE_START)


class UnstuffingReader(io.RawIOBase):
    """Reads a dot-stuffed file without the dots that DATA inserted.

    :param raw: closed together with this reader.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw
        self._tail = _LINE_START

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into ``buffer``; 0 at the end only."""
        view = memoryview(buffer).cast("B")
        while chunk := self._raw.read(len(view)):
            if b"." in chunk:
                data = (self._tail + chunk).replace(_STUFFED, _LINE_START)[2:]
            else:
                data = chunk
            self._tail = chunk[-2:] if len(chunk) > 1 else (self._tail + chunk)[-2:]
            if data:
                view[: len(data)] = data
                return len(data)
        return 0

    def close(self) -> None:
        """Close the file, too."""
        if not self.closed:
            self._raw.close()
        super().close()
