"""Contents around a content, so that a body with a mail in it is sent without being in memory."""

from __future__ import annotations

import base64
import io
from typing import BinaryIO

from typing_extensions import Buffer
from zope.interface import implementer

from mailsvc.interfaces import IContent


class _Reader(io.RawIOBase):
    """Octets of a file, in base64 if so wanted, and then more octets."""

    def __init__(self, file: BinaryIO, encoded: bool, suffix: bytes) -> None:
        super().__init__()
        self._file = file
        self._encoded = encoded
        self._suffix = suffix
        self._ready = b""
        self._held = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        room = memoryview(buffer)
        while not self._ready and not self._ended:
            self._ready = self._next(len(room))
        count = min(len(room), len(self._ready))
        room[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next(self, size: int) -> bytes:
        chunk = self._file.read(size)
        if not chunk:
            self._ended = True
            return base64.b64encode(self._held) + self._suffix
        if not self._encoded:
            return chunk
        # Base64 comes in groups of three octets; what is over waits for the next chunk.
        whole = self._held + chunk
        cut = len(whole) - len(whole) % 3
        self._held = whole[cut:]
        return base64.b64encode(whole[:cut])

    def close(self) -> None:
        self._file.close()
        super().close()


@implementer(IContent)
class Framed:
    """A content, and octets after it.

    :param encoded: the content is in base64.
    """

    def __init__(self, content: IContent, suffix: bytes, *, encoded: bool = False) -> None:
        self._content = content
        self._suffix = suffix
        self._encoded = encoded
        inner = -(-content.size // 3) * 4 if encoded else content.size
        self.size = inner + len(suffix)

    def open(self) -> BinaryIO:
        """Return a fresh reader; see :class:`~mailsvc.interfaces.IContent`."""
        return io.BufferedReader(_Reader(self._content.open(), self._encoded, self._suffix), 65_536)
