"""Reads HTTP/1.1 answers from octets as they come (RFC 9112); knows no I/O.

Strict where two readers could disagree about an answer's end: such an answer is an error, and its
connection is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: Octets of an answer, its header and what precedes it (1xx) included.
ANSWER_LIMIT = 65_536
#: Lines of an answer's header.
FIELDS_LIMIT = 256
#: Octets of a line that says how long a chunk is.
_CHUNK_LINE_LIMIT = 1_024

_BEGIN = b"HTTP/1."
#: A token of RFC 9110 section 5.6.2; a value in VCHAR, obs-text, space and tab (section 5.5).  No
#: line is folded.
_FIELD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*"
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?((?:\r\n" + _FIELD + rb")*)"
)
_TRAILER = re.compile(_FIELD)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class AnswerTooLong(Exception):
    """The answer exceeds :data:`ANSWER_LIMIT`."""


class BadAnswer(Exception):
    """What came is no answer, or one whose end cannot be told for certain."""


class ResponseReader:
    """Reads the answer to one request.

    :param bodiless: the request's method is HEAD.
    :ivar status: 0 until the header is complete.
    :ivar fields: names in lower case and values, in order.
    :ivar body: the body's octets, without chunks' framing; whole when :attr:`complete`.
    :ivar received: octets that have come.
    :ivar keep: the connection may be used for another request.
    """

    __slots__ = (
        "_bodiless",
        "_buffer",
        "_missing",
        "_searched",
        "_step",
        "body",
        "complete",
        "fields",
        "keep",
        "received",
        "status",
    )

    def __init__(self, *, bodiless: bool = False) -> None:
        self._bodiless = bodiless
        self._buffer = bytearray()
        self._searched = 0
        self._missing = 0
        # Functions, not bound methods: a reader that refers to itself would wait for the collector.
        self._step: Callable[[ResponseReader], bool] = ResponseReader._head
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.received = 0
        self.complete = False
        self.keep = False

    def receive(self, data: bytes) -> bool:
        """Take octets and say whether the answer is complete.

        :raises AnswerTooLong: it is longer than :data:`ANSWER_LIMIT`.
        :raises BadAnswer: it is malformed.
        """
        self.received += len(data)
        if self.received > ANSWER_LIMIT:
            raise AnswerTooLong
        self._buffer += data
        # A step says whether it went forward; the last one leaves the answer complete.
        while not self.complete and self._step(self):
            pass
        if self.complete and self._buffer:
            # Nothing was asked that this could answer.
            self.keep = False
        return self.complete

    def end(self) -> bool:
        """Note that the peer has closed the connection, and say whether the answer is complete."""
        if self._step is ResponseReader._until_end:
            self.complete = True
        return self.complete

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of the fields called ``name``, in lower case."""
        return [value for field, value in self.fields if field == name]

    def _head(self) -> bool:
        buffer = self._buffer
        if buffer[:7] != _BEGIN[: len(buffer)]:
            raise BadAnswer("it does not begin as HTTP/1")
        end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(buffer)
            return False
        if (found := _HEAD.fullmatch(buffer, 0, end)) is None:
            raise BadAnswer("its header is malformed")
        version, status, block = found.groups()
        del found
        lines = block.split(b"\r\n")[1:]
        if len(lines) > FIELDS_LIMIT:
            raise BadAnswer(f"its header has more than {FIELDS_LIMIT} fields")
        del buffer[: end + 4]
        self._searched = 0
        if status[:1] == b"1":
            if status == b"101":
                raise BadAnswer("it changes the protocol")
            return True
        self.status = int(status)
        for line in lines:
            name, _, value = line.partition(b":")
            self.fields.append((bytes(name).lower(), bytes(value).strip(b" \t")))
        self._frame(version == b"1")
        return True

    def _frame(self, persistent: bool) -> None:
        """Decide how the body ends (RFC 9112 section 6.3).

        :param persistent: the peer speaks HTTP/1.1.
        """
        lengths = self.values(b"content-length")
        codings = self.values(b"transfer-encoding")
        tokens = b",".join(self.values(b"connection")).lower().split(b",")
        self.keep = persistent and b"close" not in [token.strip(b" \t") for token in tokens]
        if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
            raise BadAnswer("its Content-Length is malformed")
        if codings:
            if [coding.lower() for coding in codings] != [b"chunked"] or not persistent:
                raise BadAnswer("its Transfer-Encoding is not chunked")
            if lengths:
                raise BadAnswer("it has both Content-Length and Transfer-Encoding")
        if self._bodiless or self.status in (204, 304):
            self.complete = True
        elif codings:
            self._step = ResponseReader._chunk
        elif lengths:
            self._missing = int(lengths[0])
            if self._missing > ANSWER_LIMIT:
                raise AnswerTooLong
            self._step = ResponseReader._counted
        else:
            self.keep = False
            self._step = ResponseReader._until_end

    def _counted(self) -> bool:
        self.complete = self._take()
        return False

    def _until_end(self) -> bool:
        self.body += self._buffer
        self._buffer.clear()
        return False

    def _take(self) -> bool:
        """Move what there is of the octets that are missing; say whether all are there."""
        piece = self._buffer[: self._missing]
        del self._buffer[: len(piece)]
        self.body += piece
        self._missing -= len(piece)
        return not self._missing

    def _line(self) -> bytes | None:
        """Return the next line without its CRLF, or None if it is not complete."""
        end = self._buffer.find(b"\r\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._searched = 0
        return line

    def _chunk(self) -> bool:
        line = self._line()
        if line is None:
            if len(self._buffer) > _CHUNK_LINE_LIMIT:
                raise BadAnswer("a chunk's size is malformed")
            return False
        if len(line) > _CHUNK_LINE_LIMIT or (found := _CHUNK.fullmatch(line)) is None:
            raise BadAnswer("a chunk's size is malformed")
        self._missing = int(found[1], 16)
        self._step = ResponseReader._chunk_data if self._missing else ResponseReader._trailer
        return True

    def _chunk_data(self) -> bool:
        if self._missing and not self._take():
            return False
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadAnswer("a chunk is longer than it says")
        del self._buffer[:2]
        self._step = ResponseReader._chunk
        return True

    def _trailer(self) -> bool:
        """Skip the fields that follow the last chunk: nothing asked for them."""
        line = self._line()
        if line is None:
            return False
        self._missing += 1
        if not line:
            self.complete = True
        elif self._missing > FIELDS_LIMIT or not _TRAILER.fullmatch(line):
            raise BadAnswer("its trailer is malformed")
        return True
